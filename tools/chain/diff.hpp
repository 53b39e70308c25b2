// SPDX-License-Identifier: GPL-2.0-or-later
// What of a disk is different at two points in its history, by what the layers say: no data is read. For diff, and for export,
// which copies what differs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "io/function_ref.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// A point is the number of a layer: what the disk held when that layer was on top.
struct Points {
    std::optional<std::size_t> from{};  // nothing: a disk of 0 bytes, so that all is different
    std::size_t to = 0;                 // may be below @from
};

struct Part {
    std::uint64_t start = 0, bytes = 0;  // bytes of the disk, multiples of 512
    bool zero = false;                   // reads zeroes at Points::to; false: has data there
};

// Sizes of the disk at the points, bytes.
std::uint64_t bytes_from(const qcow2::Chain& chain, const Points& points);
std::uint64_t bytes_to(const qcow2::Chain& chain, const Points& points);

// Calls @use for each part that may be different, ascending; parts that touch are of different kinds. Up to the end of the larger
// disk: what lies past the end of the smaller one is different, and past that of Points::to zero. Nothing that is different is
// left out; what was written with the same data again is there. Throws damaged() for what is wrong in a table.
// @progress: bytes of the disk done, by the thread that called.
void diff(const qcow2::Chain& chain, const Points& points, FunctionRef<void(const Part&)> use,
          const std::function<void(std::uint64_t)>& progress = {});

}  // namespace dmchain::chain
