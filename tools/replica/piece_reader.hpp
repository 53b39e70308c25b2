// SPDX-License-Identifier: GPL-2.0-or-later
// Reads the pieces of a stored snapshot, or layer, from the copies that are left.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "chain/copy_parts.hpp"
#include "guest/forget.hpp"
#include "io/function_ref.hpp"
#include "replica/store.hpp"

namespace dmchain::replica {

struct Restored {
    std::uint64_t damaged_copies = 0;  // that were found on the way, and left
    std::uint64_t disk_bytes = 0;      // taken from the disk
    std::vector<guest::PageAt> lost;   // clean cache without a copy, which reads zeroes
};

class PieceReader {
public:
    // @disk: makes what reads the disk; empty: there is none. All must stay while this is used.
    PieceReader(const Manifest& m, const Store& places, const chain::Readers& disk) : m_(m), places_(places), disk_(disk) {}

    // Calls @use(i, content of the piece numbers[i]) for all of them, in order, one at a time, by several threads, which read and
    // check what comes next. Throws damaged(), naming what is lost, if a piece has no sound copy; of those marked in @may_lose, by
    // number, it is used as empty then.
    void each(const std::vector<std::uint32_t>& numbers, FunctionRef<void(std::size_t, const std::vector<unsigned char>&)> use,
              const std::vector<bool>& may_lose = {});
    Restored done() const { return {damaged_copies_, disk_bytes_, {}}; }

private:
    void read(std::size_t number, const chain::ReadDisk& disk, bool may_lose, std::vector<unsigned char>& to);

    const Manifest& m_;
    const Store& places_;
    const chain::Readers& disk_;
    std::atomic<std::uint64_t> damaged_copies_ = 0, disk_bytes_ = 0;
};

// What is in a piece, as "3 pages of anonymous, 1 page of slab".
std::string content_of(const Manifest& manifest, std::size_t piece);

}  // namespace dmchain::replica
