// SPDX-License-Identifier: GPL-2.0-or-later
// Index nodes in the form that the chain file has them: from entries to bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "chain/window.hpp"

namespace dmchain::chain {

// More runs than this and the array is taken: what the kernel keeps as runs in memory, too.
inline constexpr std::size_t max_runs = 180;

// Collects the parts of one node, then writes them out.
class NodeBuilder {
public:
    // @entries: one for each child, those past the end of the disk HOLE. @sectors: of one child, 512 bytes each.
    // @window: where FINE and COMPRESSED entries look up; nullptr above the leaves.
    NodeBuilder(unsigned level, std::uint64_t first, std::uint64_t sectors, const Geometry& geometry, const Window* window)
        : level_(level), first_(first), sectors_(sectors), geometry_(geometry), window_(window) {}

    // If all of @entries (those of children in the disk) is one contiguous range: its first entry, which the
    // parent can hold itself. Otherwise 0.
    std::uint64_t whole(const std::uint64_t* entries, std::size_t count) const;

    // Appends the node to @out, padded to 512 bytes, and returns its length in bytes.
    std::uint32_t append(const std::uint64_t* entries, std::size_t count, std::vector<std::byte>& out);

private:
    bool goes_on(std::uint64_t from, std::size_t children, std::uint64_t entry) const;
    std::uint64_t pack(std::uint64_t entry);

    unsigned level_;
    std::uint64_t first_;
    std::uint64_t sectors_;
    const Geometry& geometry_;
    const Window* window_;
    std::vector<std::uint64_t> aux_;
};

}  // namespace dmchain::chain
