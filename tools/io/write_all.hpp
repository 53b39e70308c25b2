// SPDX-License-Identifier: GPL-2.0-or-later
// The one loop that writes to a file descriptor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dmchain {

// Writes @bytes of @data at byte @offset. Returns how many were written: if fewer, errno says why.
std::size_t write_all(int fd, const void* data, std::size_t bytes, std::uint64_t offset);

// The same, where the file descriptor stands: for pipes, too.
std::size_t write_all(int fd, const void* data, std::size_t bytes);

}  // namespace dmchain
