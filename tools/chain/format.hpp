// SPDX-License-Identifier: GPL-2.0-or-later
// The chain file's structures and validators, for C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/crc32c.hpp"

#include "dm-chain-check.h"

namespace dmchain::chain {

// Where a new chain file has its layer table: right behind both copies of the superblock.
inline constexpr std::uint64_t layers_at = CHAIN_SUPER_COPIES * CHAIN_SUPER_BYTES;

// What the superblock says of the active layer.
struct ActiveState {
    std::uint16_t id;
    std::uint64_t log_segment;  // bytes in the layer
    std::uint64_t log_segment_bytes;
    std::uint64_t log_next;
    std::uint64_t log_sequence;
    std::uint32_t log_epoch;
    std::uint64_t alloc_next;
};

}  // namespace dmchain::chain
