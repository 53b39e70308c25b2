// SPDX-License-Identifier: GPL-2.0-or-later
// The x86-64 kernel's own addresses: walks its page tables, of 4 or 5 levels. Source: Intel's manual, volume 3, section 4.5.
#pragma once

#include <cstdint>
#include <optional>

#include "guest/memory.hpp"

namespace dmchain::guest {

class Paging {
public:
    // @root: physical address of the top table. @levels: 4 or 5.
    Paging(const Memory& memory, std::uint64_t root, unsigned levels) : memory_(memory), root_(root), levels_(levels) {}

    // Physical address of @address; nullopt: nothing is mapped there.
    std::optional<std::uint64_t> find(std::uint64_t address) const;
    // The same; throws NotUnderstood.
    std::uint64_t physical(std::uint64_t address) const;

    // Physical address of a table of the lowest level for addresses of a process, of the tables with this top; nullopt: none.
    std::optional<std::uint64_t> lowest_table(std::uint64_t top) const;

    void read(void* to, std::size_t bytes, std::uint64_t address) const;
    std::uint64_t read_u64(std::uint64_t address) const;

    const Memory& memory() const { return memory_; }

private:
    const Memory& memory_;
    std::uint64_t root_;
    unsigned levels_;
    // The page that was looked up last: what is read lies together.
    mutable std::uint64_t last_page_ = 1;
    mutable std::uint64_t last_physical_ = 0;
};

}  // namespace dmchain::guest
