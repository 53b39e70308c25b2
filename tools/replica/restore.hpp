// SPDX-License-Identifier: GPL-2.0-or-later
// Makes the memory image of a stored snapshot again, in the form that it had, from the copies that are left.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "guest/writer.hpp"
#include "replica/store.hpp"
#include "replica/piece_reader.hpp"

namespace dmchain::replica {

struct Source {
    Manifest manifest;
    std::vector<std::string> problems;  // lines: of manifests that are missing, damaged, or cannot be read
};

// The manifest of a snapshot, from the first folder that has a sound one. Throws failed() if none has it, damaged() if none is
// sound or they are of different snapshots. The same of a layer.
Source find_manifest(const Store& places, const std::string& name, Place::Kind kind = Place::Kind::snapshot);

// Pieces that no folder has, and that are not on the disk, or for which @disk is needed and not there. Copies are looked for, not
// read.
struct Missing {
    std::vector<std::size_t> pieces;
    bool cache = false;  // there are more, that a guest can do without (Manifest::cache_pieces())
};
Missing missing_pieces(const Manifest& manifest, const Store& places, bool disk);
// How many pieces have no copy but the disk's.
std::uint64_t pieces_only_on_disk(const Manifest& manifest, const Store& places);

// What is made gets its bytes by these. A migration stream gets them in order.
struct Outputs {
    guest::Put memory;
    guest::Put state;  // of Firecracker: the file with the state of the devices
};

// Each piece is checked before it is used. Throws damaged(), naming what is lost, if a piece has no sound copy. If @may_lose, clean
// cache may be lost: what is made is nothing to go on with then, before guest::forget_pages() has had its changes made.
Restored restore(const Manifest& manifest, const Store& places, const chain::Readers& disk, const Outputs& out, bool may_lose,
                 const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain::replica
