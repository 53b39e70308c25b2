// SPDX-License-Identifier: GPL-2.0-or-later
// A fleet in numbers. For survey.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "chain/fleet_usage.hpp"

namespace dmchain::chain {

// A file that belongs to nothing.
struct Orphan {
    std::string path;
    std::string what;  // why, and what to do
};

struct FleetSummary {
    std::size_t qcow2 = 0;        // images
    std::size_t raw = 0;          // files that images have as raw layers
    std::size_t data_files = 0;   // external ones
    std::size_t chain_files = 0;  // sound ones
    std::size_t others = 0;       // files below the folders that are none of these
    std::size_t written = 0;      // images that another program has open for writing
    std::size_t chains = 0;
    std::size_t broken = 0;                      // chains that cannot be read
    std::vector<std::uint64_t> lengths{};        // of the others, ascending
    std::vector<std::uint64_t> virtual_sizes{};  // of their disks, bytes, ascending
    std::uint64_t virtual_bytes = 0;
    std::uint64_t file_bytes = 0;        // of images, raw layers and data files, each once
    std::uint64_t disk_bytes = 0;        // that these take in their file systems
    std::size_t shared_layers = 0;       // that several chains stand on
    std::uint64_t shared_bytes = 0;      // of their files
    std::uint64_t not_copied_bytes = 0;  // that copies for each chain would take besides
    std::size_t most_chains = 0;         // on one layer
    std::uint64_t live_bytes = 0;
    std::array<std::uint64_t, depth_classes> live_by_depth{};
    std::uint64_t stored_bytes = 0;
    std::uint64_t wasted_bytes = 0;
    std::uint64_t freed_bytes = 0;  // of wasted_bytes, in layers that one chain alone has
    // Files that were modified less than a day, a week, 30 days, a year ago; the rest.
    std::array<std::size_t, 5> images_by_age{};
    std::int64_t oldest = 0, newest = 0;  // times of modification, seconds since 1970
    std::vector<Orphan> orphans{};
};

// @now: seconds since 1970.
FleetSummary sum_up(const Fleet& fleet, const FleetUsage& usage, std::int64_t now);

// The value below or at which so many of a hundred are. @sorted: ascending, not empty.
std::uint64_t percentile(const std::vector<std::uint64_t>& sorted, unsigned of_hundred);

// "0", "1", "2 to 3", "4 to 7" ...: the depths, or lengths less 1, of a class.
std::string class_name(std::size_t number);

}  // namespace dmchain::chain
