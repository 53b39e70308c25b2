// SPDX-License-Identifier: GPL-2.0-or-later
// Reads the pieces of a stored snapshot, or layer, from the copies that are left.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "chain/copy_parts.hpp"
#include "replica/store.hpp"

namespace dmchain::replica {

struct Restored {
    std::uint64_t pieces = 0;
    std::uint64_t damaged_copies = 0;  // that were found on the way, and left
    std::uint64_t disk_bytes = 0;      // taken from the disk
};

class PieceReader {
public:
    // @disk: reads the disk; empty: there is none. All must stay while this is used.
    PieceReader(const Manifest& m, const Store& places, const chain::ReadDisk& disk) : m_(m), places_(places), disk_(disk) {}

    // Its content, checked; until the next call. Throws damaged(), naming what is lost, if it has no sound copy.
    const std::vector<unsigned char>& read(std::size_t number);
    const Restored& done() const { return done_; }

private:
    const Manifest& m_;
    const Store& places_;
    const chain::ReadDisk& disk_;
    std::vector<unsigned char> data_;
    Restored done_;
};

// What is in a piece, as "3 pages of anonymous, 1 page of slab".
std::string content_of(const Manifest& manifest, std::size_t piece);

}  // namespace dmchain::replica
