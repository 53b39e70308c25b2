// SPDX-License-Identifier: GPL-2.0-or-later
// Pages of a guest's cache that are on its disk, byte for byte.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "guest/image.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::replica {

// A page of memory, and the byte of the disk where the same 4096 bytes are.
struct Backed {
    std::uint32_t block;
    std::uint64_t page;
    std::uint64_t disk;
};

// Looks for @pages, of which `disk` is not set yet, on the disk as it was at layer number @point, and returns those that are
// there, in the order of the disk. All data of the disk is read. @progress: bytes more; from any thread.
std::vector<Backed> find_on_disk(const guest::Image& image, std::vector<Backed> pages, const qcow2::Chain& chain,
                                 std::size_t point, const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain::replica
