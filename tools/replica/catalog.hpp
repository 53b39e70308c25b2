// SPDX-License-Identifier: GPL-2.0-or-later
// The snapshots of a store, the copies that they should have, and those that are there. For scrub, repair, gc and snapshots.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "replica/folder.hpp"

namespace dmchain::replica {

// What the folders have of one snapshot.
struct Manifests {
    std::optional<Manifest> manifest;   // the same in all that have it whole; nothing: none has
    std::uint64_t sound = 0;            // bits of these
    std::vector<std::string> problems;  // lines: of the others
    std::optional<Error> unreadable;    // what was wrong with the first of the others that is there, and not damaged
    bool damaged = false;               // some are
};
// Throws failed() if two folders have different snapshots under the name.
Manifests read_manifests(const std::vector<Folder>& folders, const std::string& name);

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

// Throws failed() as read_manifests().
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

// Which copies there should be.
Pieces wanted_copies(const Catalog& catalog);
// Their bytes.
std::uint64_t wanted_bytes(const Pieces& pieces);
// Looks for them.
void find_copies(Pieces& pieces, const std::vector<Folder>& folders);
// Reads them, several folders at a time. @progress: bytes read more; from any thread.
void read_copies(Pieces& pieces, const std::vector<Folder>& folders, const std::function<void(std::uint64_t)>& progress);

// Of one snapshot.
struct Health {
    std::uint64_t pieces = 0, short_ones = 0, lost = 0, only_on_disk = 0;
    std::uint64_t stored_bytes = 0;  // of all copies that are there
};
Health health_of(const StoredSnapshot& snapshot, const Pieces& pieces);

}  // namespace dmchain::replica
