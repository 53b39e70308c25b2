// SPDX-License-Identifier: GPL-2.0-or-later
// What each snapshot of a chain holds, and what deleting it would give back. For snapshots and compact.
#pragma once

#include <cstdint>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::qcow2 {

// Bytes of the virtual disk that lie in layers as data, compressed or not; zeroes take no room.
struct Space {
    std::uint64_t written = 0;     // in this layer
    std::uint64_t referenced = 0;  // seen by a disk that has this layer on top
    std::uint64_t unique = 0;      // of this layer, and the one above covers them: nobody else sees them. 0 for the top.
};

// One for each layer, base first. Reads tables only; takes 4 bytes a unit of 1 GiB of the disk for each thread, at most 8 MiB.
// Calls @progress, in this thread, with bytes of the virtual disk as they are done.
std::vector<Space> measure_space(const Chain& chain, FunctionRef<void(std::uint64_t)> progress);

}  // namespace dmchain::qcow2
