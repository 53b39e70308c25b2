// SPDX-License-Identifier: GPL-2.0-or-later
// See zeroes.hpp.
#include "io/zeroes.hpp"

#include <algorithm>
#include <cstring>

namespace dmchain {

bool is_zero(const unsigned char* data, std::size_t bytes) { return data[0] == 0 && !std::memcmp(data, data + 1, bytes - 1); }

void each_nonzero(const unsigned char* data, std::size_t bytes, std::uint64_t at, std::size_t grain,
                  FunctionRef<void(std::size_t, std::size_t)> use, FunctionRef<void(std::size_t, std::size_t)> zero) {
    std::size_t begin = 0;  // of what is not zero
    for (std::size_t i = 0, n; i < bytes; i += n) {
        n = std::min<std::size_t>(bytes - i, grain - (at + i) % grain);
        if (!is_zero(data + i, n)) continue;
        if (begin < i) use(begin, i - begin);
        zero(i, n);
        begin = i + n;
    }
    if (begin < bytes) use(begin, bytes - begin);
}

}  // namespace dmchain
