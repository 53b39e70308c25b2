// SPDX-License-Identifier: GPL-2.0-or-later
// See crc32c.hpp.
#include "io/crc32c.hpp"

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace dmchain {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; i++) {
        std::uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        t[i] = c;
    }
    return t;
}

constexpr std::array<std::uint32_t, 256> table = make_table();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) __u32 crc32c_by_instruction(__u32 crc, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(data);
    std::uint64_t c = static_cast<std::uint32_t>(~crc);
    for (; bytes >= 8; bytes -= 8, p += 8) {
        std::uint64_t word;
        std::memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    auto c32 = static_cast<std::uint32_t>(c);
    for (; bytes > 0; bytes--, p++) c32 = _mm_crc32_u8(c32, *p);
    return ~c32;
}
#endif

}  // namespace

__u32 crc32c_by_table(__u32 crc, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(data);
    std::uint32_t c = ~crc;
    for (; bytes > 0; bytes--, p++) c = table[(c ^ *p) & 0xff] ^ c >> 8;
    return ~c;
}

}  // namespace dmchain

extern "C" __u32 chain_crc32c_more(__u32 crc, const void* data, std::size_t bytes) {
#if defined(__x86_64__)
    static const bool has_instruction = __builtin_cpu_supports("sse4.2");
    if (has_instruction) return dmchain::crc32c_by_instruction(crc, data, bytes);
#endif
    return dmchain::crc32c_by_table(crc, data, bytes);
}
