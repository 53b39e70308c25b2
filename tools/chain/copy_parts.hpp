// SPDX-License-Identifier: GPL-2.0-or-later
// Reads what is different at two points of a disk, with several requests under way. For export.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "chain/diff.hpp"

namespace dmchain::chain {

// Threads that read and write at a time: they wait for the disk, not for the processor.
inline constexpr unsigned copy_threads = 8;
inline constexpr std::uint64_t copy_bytes = 1u << 20;  // at once

// Bytes that one request of a copy has, at the most. Of layers that a device has, fewer: its guest's own requests wait behind them, for
// the disk or, where that is memory, for the processor.
inline constexpr std::uint64_t request_bytes = 512u << 10;
inline constexpr std::uint64_t request_bytes_in_use = 128u << 10;

// Reads @bytes at @offset of the disk. Of one thread.
using ReadDisk = std::function<void(void* buffer, std::size_t bytes, std::uint64_t offset)>;
// Makes one for a thread.
using Readers = std::function<ReadDisk()>;
// The disk at @point, from the files of its layers, which nobody may write to.
Readers readers_of(const qcow2::Chain& chain, std::size_t point);

// At most copy_bytes of a part with data; a part of zeroes is one piece.
struct Piece {
    std::uint64_t start, bytes;
    const unsigned char* data;  // nullptr: zeroes
};

struct CopyHow {
    Readers readers;
    bool ordered = false;  // pieces are used one at a time, ascending; otherwise as they come, by any thread
};

// Calls @use for all that diff() finds at @points.
void copy_parts(const qcow2::Chain& chain, const Points& points, const CopyHow& how, FunctionRef<void(const Piece&)> use);

}  // namespace dmchain::chain
