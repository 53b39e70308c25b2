// SPDX-License-Identifier: GPL-2.0-or-later
// See digest.hpp.
#include "replica/digest.hpp"

#include <fmt/format.h>
#include <gcrypt.h>

#include <charconv>

namespace dmchain::replica {

Digest digest_of(const void* data, std::size_t bytes) {
    static const bool ready = [] {
        ::gcry_check_version(nullptr);
        ::gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        ::gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
        return true;
    }();
    (void)ready;
    Digest out;
    ::gcry_md_hash_buffer(GCRY_MD_SHA256, out.data(), data, bytes);
    return out;
}

std::string text_of(const Digest& digest) {
    std::string out;
    for (const unsigned char c : digest) out += fmt::format("{:02x}", c);
    return out;
}

std::optional<Digest> parse_digest(const std::string& text) {
    Digest out;
    if (text.size() != 2 * out.size()) return std::nullopt;
    for (std::size_t i = 0; i < out.size(); i++) {
        const char* const end = text.data() + 2 * i + 2;
        const auto [at, error] = std::from_chars(end - 2, end, out[i], 16);
        if (error != std::errc() || at != end) return std::nullopt;
    }
    // In the same digits.
    return text_of(out) == text ? std::optional(out) : std::nullopt;
}

}  // namespace dmchain::replica
