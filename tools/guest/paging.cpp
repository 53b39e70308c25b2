// SPDX-License-Identifier: GPL-2.0-or-later
// See paging.hpp.
#include "guest/paging.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace dmchain::guest {

namespace {

constexpr std::uint64_t present = 1, large = 1u << 7;
constexpr std::uint64_t address_bits = 0x000ffffffffff000;

}  // namespace

std::optional<std::uint64_t> Paging::find(std::uint64_t address) const {
    std::uint64_t table = root_;
    for (unsigned level = levels_; level > 0; level--) {
        const unsigned shift = 12 + 9 * (level - 1);
        std::uint64_t entry;
        memory_.read(&entry, sizeof entry, table + (address >> shift & 511) * sizeof entry);
        if (!(entry & present)) return std::nullopt;
        const std::uint64_t within = (std::uint64_t{1} << shift) - 1;
        if (level == 1 || (level <= 3 && (entry & large))) return (entry & address_bits & ~within) | (address & within);
        table = entry & address_bits;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> Paging::lowest_table(std::uint64_t top) const {
    std::uint64_t table = top;
    for (unsigned level = levels_; level > 1; level--) {
        std::array<std::uint64_t, 512> entries;
        memory_.read(entries.data(), sizeof entries, table);
        // The upper half of the top table is the kernel's.
        const auto end = entries.begin() + (level == levels_ ? 256 : 512);
        const auto next = std::find_if(entries.begin(), end, [](std::uint64_t e) { return (e & present) && !(e & large); });
        if (next == end) return std::nullopt;
        table = *next & address_bits;
    }
    return table;
}

std::uint64_t Paging::physical(std::uint64_t address) const {
    if (const auto p = find(address)) return *p;
    throw NotUnderstood(fmt::format("nothing is mapped at {:#x}", address));
}

void Paging::read(void* to, std::size_t bytes, std::uint64_t address) const {
    auto* out = static_cast<unsigned char*>(to);
    while (bytes) {
        const std::uint64_t within = address % page_bytes, page = address - within;
        if (page != last_page_) {
            last_physical_ = physical(page);
            last_page_ = page;
        }
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, page_bytes - within));
        memory_.read(out, n, last_physical_ + within);
        out += n;
        address += n;
        bytes -= n;
    }
}

std::uint64_t Paging::read_u64(std::uint64_t address) const {
    std::uint64_t n;
    read(&n, sizeof n, address);
    return n;
}

}  // namespace dmchain::guest
