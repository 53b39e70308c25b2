// SPDX-License-Identifier: GPL-2.0-or-later
// What the chains of a fleet see of their layers. Each layer's tables are read once, whatever the number of chains that
// stand on it; one image at a time is open for each thread, and memory is bounded by pieces_at_once.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chain/fleet.hpp"

namespace dmchain::chain {

// How far below the top: 0, 1, 2 and 3, 4 to 7, ...
inline constexpr std::size_t depth_classes = 16;
constexpr std::size_t depth_class(std::uint64_t depth) { return static_cast<std::size_t>(std::bit_width(depth)); }

// Of a layer that some chain has.
struct LayerUsage {
    std::size_t chains = 0;           // that have it
    std::uint64_t virtual_bytes = 0;  // of the disk, as the layer says
    std::uint64_t stored_bytes = 0;   // of data, compressed or not, as they lie in the file
    std::uint64_t wasted_bytes = 0;   // of these, what no top sees; of compressed data by the average of the layer
};

// Of a chain, as in Fleet::chains.
struct ChainUsage {
    bool read = false;  // of all its layers; otherwise the rest is 0
    std::uint64_t virtual_bytes = 0;
    std::uint64_t file_bytes = 0;      // of all its files
    std::uint64_t own_file_bytes = 0;  // of those that no other chain has
    std::uint64_t live_bytes = 0;      // of the disk, that are data (not zeroes)
    std::uint64_t freed_bytes = 0;     // stored in layers of its own and seen by nobody: what merging these would give back
    std::size_t shared_layers = 0;     // that other chains have, too
    std::int64_t newest = 0;           // times of modification of its files, seconds since 1970
    std::int64_t oldest = 0;
    std::array<std::uint64_t, depth_classes> live_by_depth{};  // live_bytes, by how far below the top they lie
};

struct FleetUsage {
    std::vector<LayerUsage> layers;  // by number in Fleet::layers
    std::vector<ChainUsage> chains;  // by number in Fleet::chains
};

struct FleetUsageOptions {
    unsigned threads = 0;                  // 0: one for each processor
    std::size_t pieces_at_once = 1 << 19;  // for each thread; some 50 MiB
};

// What is found damaged on the way is added to @fleet's damage, and its chains are broken.
FleetUsage measure_fleet(Fleet& fleet, const FleetUsageOptions& options = {});

}  // namespace dmchain::chain
