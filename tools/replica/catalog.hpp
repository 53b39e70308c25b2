// SPDX-License-Identifier: GPL-2.0-or-later
// The snapshots of a store, the copies that they should have, and those that are there. For scrub, repair, gc and snapshots.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "replica/store.hpp"

namespace dmchain::replica {

// What the folders have of one snapshot, or one layer.
struct Manifests {
    std::optional<Manifest> manifest;   // the same in all that have it whole; nothing: none has
    std::uint64_t sound = 0;            // bits of these
    std::vector<std::string> problems;  // lines: of the others
    bool damaged = false;               // some are
};
// Throws failed() if two folders have different ones under the name.
Manifests read_manifests(const Store& places, const std::string& name, Place::Kind kind = Place::Kind::snapshot);

// A manifest without its runs.
struct StoredSnapshot {
    std::string name;
    std::uint64_t created = 0;  // seconds since 1970
    std::string kernel;         // "": the guest was not understood
    std::uint64_t memory_bytes = 0;
    std::optional<Disk> disk;
    std::vector<std::string> layers;
    std::uint64_t disk_bytes = 0;  // size of the disk, if its layers are stored
    std::vector<Piece> pieces;     // without those of the layers
    std::vector<bool> cache;       // of each: Manifest::cache_pieces()
    std::uint64_t sound = 0;       // bits of the folders that have its manifest, whole
};

// The same of a layer.
struct StoredLayer {
    std::uint64_t disk_bytes = 0;
    std::vector<Piece> pieces;
    std::uint64_t sound = 0;
};

struct Catalog {
    std::vector<StoredSnapshot> snapshots;      // by name
    std::map<std::string, StoredLayer> layers;  // those that snapshots have, by name
    // Of manifests that are missing in some folder, or damaged: a line each.
    std::vector<std::string> problems;
    // Snapshots of which no folder has the manifest, or that of a layer, whole: nobody knows which pieces are theirs.
    std::vector<std::string> lost;
    // Why some place could not say which snapshots it has; a line each.
    std::vector<std::string> unlisted;

    // Calls use(piece) for all of the snapshot, its layers' included.
    template <typename Use>
    void each_piece(const StoredSnapshot& snapshot, const Use& use) const {
        for (const Piece& p : snapshot.pieces) use(p);
        for (const std::string& name : snapshot.layers)
            for (const Piece& p : layers.at(name).pieces) use(p);
    }
};

// Throws failed() as read_manifests().
Catalog read_catalog(const Store& places);

// A piece, and where it is. Bits of folders.
struct Copies {
    Piece piece;                           // digest, bytes, and where on a disk
    unsigned wanted = 0;                   // copies, the most that a snapshot wants
    std::uint64_t sound = 0, damaged = 0;  // what is there, by has(), or by reading
    std::uint64_t stored_bytes = 0;        // by has(): what they take

    bool is_short() const;  // there are fewer than wanted
    bool is_lost() const;   // of those that should be, there is none, nor is it on a disk
};
using Pieces = std::map<Digest, Copies>;

// Which copies there should be.
Pieces wanted_copies(const Catalog& catalog);
// Their bytes.
std::uint64_t wanted_bytes(const Pieces& pieces);
// Looks for them.
void find_copies(Pieces& pieces, const Store& places);
// Reads them, several folders at a time. @progress: bytes read more; from any thread.
void read_copies(Pieces& pieces, const Store& places, const std::function<void(std::uint64_t)>& progress);

// Of one snapshot.
struct Health {
    std::uint64_t pieces = 0, short_ones = 0, lost = 0, only_on_disk = 0;  // layers' included
    std::uint64_t lost_cache = 0;                                          // lost, and the guest goes on without; not in `lost`
    std::uint64_t stored_bytes = 0;                                        // that all copies take, as find_copies() found them
};
Health health_of(const Catalog& catalog, const StoredSnapshot& snapshot, const Pieces& pieces);

}  // namespace dmchain::replica
