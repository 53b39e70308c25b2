// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes that are all zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/function_ref.hpp"

namespace dmchain {

// @bytes: not 0.
bool is_zero(const unsigned char* data, std::size_t bytes);
// Of a buffer whose first byte is byte @at of a file, in grains of @grain bytes of that file: calls @use(start, bytes) for what is not
// all zero, as much as follows each other, and @zero(start, bytes) for each grain that is, or what of it is in the buffer.
void each_nonzero(const unsigned char* data, std::size_t bytes, std::uint64_t at, std::size_t grain,
                  FunctionRef<void(std::size_t, std::size_t)> use, FunctionRef<void(std::size_t, std::size_t)> zero);

}  // namespace dmchain
