// SPDX-License-Identifier: GPL-2.0-or-later
// The snapshots of a store, the copies that they should have, and those that are there. For scrub, repair, gc and snapshots.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "replica/folder.hpp"

namespace dmchain::replica {

// A manifest without its runs.
struct StoredSnapshot {
    std::string name;
    std::uint64_t created = 0;  // seconds since 1970
    std::string kernel;         // "": the guest was not understood
    std::uint64_t memory_bytes = 0;
    std::optional<Disk> disk;
    std::vector<Piece> pieces;
    std::uint64_t sound = 0;  // bits of the folders that have its manifest, whole
};

struct Catalog {
    std::vector<StoredSnapshot> snapshots;  // by name
    // Of manifests that are missing in some folder, or damaged: a line each.
    std::vector<std::string> problems;
    // Snapshots whose manifest no folder has whole: nobody knows which pieces are theirs.
    std::vector<std::string> lost;
};

// Throws failed() if two folders have different snapshots under one name.
Catalog read_catalog(const std::vector<Folder>& folders);

// A piece, and where it is. Bits of folders.
struct Copies {
    Piece piece;                           // digest, bytes, and where on a disk
    unsigned wanted = 0;                   // copies, the most that a snapshot wants
    std::uint64_t sound = 0, damaged = 0;  // what is there, by has(), or by reading

    bool is_short() const;  // there are fewer than wanted
    bool is_lost() const;   // of those that should be, there is none, nor is it on a disk
};
using Pieces = std::map<Digest, Copies>;

// @read: the copies are read, several folders at a time; otherwise only looked for. @progress: bytes read more; from any thread.
Pieces find_copies(const Catalog& catalog, const std::vector<Folder>& folders, bool read,
                   const std::function<void(std::uint64_t)>& progress);
// That find_copies() reads at the most.
std::uint64_t bytes_to_read(const Catalog& catalog, const std::vector<Folder>& folders);

// Of one snapshot.
struct Health {
    std::uint64_t pieces = 0, short_ones = 0, lost = 0, only_on_disk = 0;
    std::uint64_t stored_bytes = 0;  // of all copies that are there
};
Health health_of(const StoredSnapshot& snapshot, const Pieces& pieces);

}  // namespace dmchain::replica
