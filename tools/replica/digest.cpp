// SPDX-License-Identifier: GPL-2.0-or-later
// See digest.hpp.
#include "replica/digest.hpp"

#include <fmt/format.h>
#include <gcrypt.h>

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

}  // namespace dmchain::replica
