// SPDX-License-Identifier: GPL-2.0-or-later
// What a layer says of a range of the virtual disk: the common word of qcow2/, which produces
// extents, and chain/, which builds the index from them.
#pragma once

#include <cstdint>

namespace dmchain::qcow2 {

enum class Kind : std::uint8_t {
    zero,        // reads zeroes, whatever lies below
    data,        // stored plainly
    compressed,  // one compressed cluster (or, at the end of the disk, the part of it inside the disk)
};

// Ranges that the layer does not define (what lies below shows through) have no extent.
struct Extent {
    std::uint64_t guest;  // bytes in the virtual disk, a multiple of 512
    std::uint64_t bytes;  // a multiple of 512, > 0; never past the layer's virtual size
    Kind kind;
    std::uint64_t host;        // data: bytes in the data file (the image, or its external data file), a
                               // multiple of 512, contiguous for all of `bytes`.
                               // compressed: bytes in the image, any alignment. zero: 0.
    std::uint32_t host_bytes;  // compressed: upper bound of the stream's length; otherwise 0
};

}  // namespace dmchain::qcow2
