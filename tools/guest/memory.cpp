// SPDX-License-Identifier: GPL-2.0-or-later
// See memory.hpp.
#include "guest/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace dmchain::guest {

namespace {

constexpr std::uint64_t gib = std::uint64_t{1} << 30;

}  // namespace

std::size_t Memory::main_block(const Image& image) {
    const auto& blocks = image.blocks;
    const auto largest =
        std::max_element(blocks.begin(), blocks.end(), [](const RamBlock& a, const RamBlock& b) { return a.bytes < b.bytes; });
    return static_cast<std::size_t>(largest - blocks.begin());
}

std::vector<std::uint64_t> Memory::low_candidates(const Image& image, std::size_t block) {
    if (image.low) return {*image.low};
    const std::uint64_t bytes = image.blocks[block].bytes;
    // Machines with less memory than the second number have all of it below 4 GiB, up to that number.
    struct Split {
        std::uint64_t low, all_below;
    };
    std::vector<Split> splits = {{3 * gib, 3 * gib + gib / 2}, {2 * gib, 2 * gib + 3 * gib / 4}, {3 * gib, 3 * gib}};
    if (image.machine.find("q35") != std::string::npos) std::swap(splits[0], splits[1]);
    std::vector<std::uint64_t> out;
    for (const Split& s : splits) {
        const std::uint64_t low = bytes < s.all_below ? bytes : s.low;
        if (std::find(out.begin(), out.end(), low) == out.end()) out.push_back(low);
    }
    return out;
}

std::uint64_t Memory::end() const { return (frame(pages() - 1) + 1) * page_bytes; }

std::optional<std::uint64_t> Memory::page_of(std::uint64_t frame) const {
    std::uint64_t page = frame;
    if (frame >= high / page_bytes)
        page = frame - (high - low_) / page_bytes;
    else if (frame >= low_ / page_bytes)
        return std::nullopt;
    if (page >= pages()) return std::nullopt;
    return page;
}

void Memory::read(void* to, std::size_t bytes, std::uint64_t physical) const {
    auto* out = static_cast<unsigned char*>(to);
    const RamBlock& b = image_.blocks[block_];
    while (bytes) {
        const auto page = page_of(physical / page_bytes);
        if (!page) throw NotUnderstood(fmt::format("there is no memory at {:#x}", physical));
        const std::uint64_t within = physical % page_bytes;
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, page_bytes - within));
        const std::uint64_t where = b.where[*page];
        if (RamBlock::has_content(where))
            image_.source.read(out, n, where + within);
        else
            std::memset(out, 0, n);
        out += n;
        physical += n;
        bytes -= n;
    }
}

}  // namespace dmchain::guest
