// SPDX-License-Identifier: GPL-2.0-or-later
// SHA-256: what stored pieces are named by, and checked with. Guests choose what is in their memory, so that it must not be
// possible to make two pieces with one name.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>

namespace dmchain::replica {

using Digest = std::array<unsigned char, 32>;

Digest digest_of(const void* data, std::size_t bytes);
// 64 hexadecimal digits.
std::string text_of(const Digest& digest);
// Nothing: it is no such text.
std::optional<Digest> parse_digest(const std::string& text);

}  // namespace dmchain::replica
