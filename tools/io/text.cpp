// SPDX-License-Identifier: GPL-2.0-or-later
// See text.hpp.
#include "io/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace dmchain {
namespace {

// Length of the valid UTF-8 sequence of more than one byte at the start of @s, or 0. Code points
// U+0080..U+009F (C1 controls) and overlong forms count as invalid.
std::size_t utf8_sequence(std::string_view s) {
    auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
    std::size_t n = 0;
    std::uint32_t code = 0;
    std::uint32_t least = 0;
    if ((at(0) & 0xe0) == 0xc0) {
        n = 2, code = at(0) & 0x1fu, least = 0xa0;
    } else if ((at(0) & 0xf0) == 0xe0) {
        n = 3, code = at(0) & 0x0fu, least = 0x800;
    } else if ((at(0) & 0xf8) == 0xf0) {
        n = 4, code = at(0) & 0x07u, least = 0x10000;
    }
    if (n == 0 || s.size() < n) return 0;
    for (std::size_t i = 1; i < n; i++) {
        if ((at(i) & 0xc0) != 0x80) return 0;
        code = code << 6 | (at(i) & 0x3fu);
    }
    // Surrogates, and the marks that reorder or hide text, are spelled out too.
    bool bidi = (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x2069) ||
                code == 0xfeff;
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) || bidi) return 0;
    return n;
}

}  // namespace

std::string escaped(std::string_view name) {
    constexpr std::size_t most = 1024;
    std::string out;
    std::string_view rest = name.substr(0, most);
    while (!rest.empty()) {
        auto c = static_cast<unsigned char>(rest[0]);
        std::size_t take = 1;
        if (c == '\n') {
            out += "\\n";
        } else if (c == '\t') {
            out += "\\t";
        } else if (c == '\\' || c == '\'') {
            out += '\\';
            out += rest[0];
        } else if (c >= 0x20 && c < 0x7f) {
            out += rest[0];
        } else if (std::size_t n = utf8_sequence(rest)) {
            out += rest.substr(0, n);
            take = n;
        } else {
            out += fmt::format("\\x{:02x}", c);
        }
        rest.remove_prefix(take);
    }
    if (name.size() > most) out += "...";
    return out;
}

std::string in_quotes(std::string_view name) { return "'" + escaped(name) + "'"; }

std::string counted(std::uint64_t n, const char* thing, const char* things) {
    if (n != 1 && things) return fmt::format("{} {}", n, things);
    return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
}

std::string human_size(std::uint64_t bytes) {
    static constexpr std::array<const char*, 7> units = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    while (unit + 1 < units.size() && bytes >> (10 * (unit + 1)) != 0) unit++;
    std::uint64_t one = std::uint64_t{1} << (10 * unit);
    if (bytes % one == 0) return fmt::format("{} {}", bytes / one, units[unit]);
    return fmt::format("{:.1f} {}", static_cast<double>(bytes) / static_cast<double>(one), units[unit]);
}

std::string human_time(double seconds) {
    static constexpr std::uint64_t minute = 60, hour = 60 * minute, day = 24 * hour;
    const auto up = [&](std::uint64_t unit) {
        return static_cast<std::uint64_t>(std::ceil(std::clamp(seconds, 0.0, 1e9) / static_cast<double>(unit)));
    };
    const auto two = [](std::uint64_t n, std::uint64_t of, const char* big, const char* small) {
        return n % of ? fmt::format("{} {} {} {}", n / of, big, n % of, small) : fmt::format("{} {}", n / of, big);
    };
    if (const std::uint64_t n = up(1); n < minute) return fmt::format("{} s", n);
    if (const std::uint64_t n = up(minute); n < hour / minute) return fmt::format("{} min", n);
    if (const std::uint64_t n = up(minute); n < day / minute) return two(n, hour / minute, "h", "min");
    return two(up(hour), day / hour, "d", "h");
}

}  // namespace dmchain
