// SPDX-License-Identifier: GPL-2.0-or-later
// Stores the memory of a stopped guest, with as many copies of each page as the policy says.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "guest/classify.hpp"
#include "replica/backing.hpp"
#include "replica/piece_writer.hpp"
#include "replica/policy.hpp"

namespace dmchain::replica {

// What is stored, before anything is written.
struct Plan {
    // Of each block of the image, how many copies of each page: unused, zero, or a number.
    static constexpr std::uint8_t none = 0xff, zero = 0xfe, on_disk = 0xfd;
    std::vector<std::vector<std::uint8_t>> pages;
    std::vector<Backed> backed;  // those that are on_disk, in the order of the disk

    struct Sum {
        std::uint64_t bytes = 0;         // of all pages of the class
        std::uint64_t zero_bytes = 0;    // of these, in pages that are zero
        std::uint64_t disk_bytes = 0;    // on the disk
        std::uint64_t stored_bytes = 0;  // all copies together
    };
    std::array<Sum, guest::classes> classes{};
    std::uint64_t other_stored_bytes = 0;  // copies of what is before and after the pages
    std::uint64_t stored_bytes() const;
};

// @backed: nullopt if there is no disk to look at; otherwise what was found there, and clean pages that were not are critical.
Plan make_plan(const guest::Image& image, const guest::PageMap& map, const Policy& policy,
               std::optional<std::vector<Backed>> backed);

// @manifest, a new one, gets the memory.
void store_memory(const guest::Image& image, const guest::PageMap& map, const Plan& plan, const Policy& policy,
                  PieceWriter& pieces, Manifest& manifest);

}  // namespace dmchain::replica
