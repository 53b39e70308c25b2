// SPDX-License-Identifier: GPL-2.0-or-later
// A new active layer, for create and snapshot: a qcow2 file without tables that carries the in-use feature, with an
// empty log. include/dm-chain-log.h has its layout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/writable.hpp"
#include "qcow2/label.hpp"
#include "qcow2/log.hpp"

namespace dmchain::qcow2 {

// Bytes of the log's first segment, at least.
inline constexpr std::uint64_t first_segment_bytes = 1u << 20;

struct ActiveOptions {
    std::uint64_t size;           // of the virtual disk, bytes, a multiple of 512
    std::uint32_t cluster_bits;   // of the chain's index, 12 to 21
    std::uint32_t subblock_bits;  // of the chain's index: no unit is smaller
    std::string backing_name;     // as it is to stand in the header; "": none
    std::string backing_format = "qcow2";
    std::uint64_t log_bytes = 0;  // of the log's first segment, at least
    std::optional<Label> label{};
    std::optional<LogId> id{};  // of the log, and so of the layer; none: a new one
};

// Makes @path, which must not exist, or overwrites it if it is a block device. It is durable, name and all, when this
// returns; on an error no file is left.
void make_active(const std::string& path, const ActiveOptions& options);

// A log with @segment_bytes of the first segment, written to @to (not synced): the head, then no block.
// @sectors: of the virtual disk. Returns its id, a new one if there is no @id.
LogId write_empty_log(Writable& to, std::uint32_t cluster_bits, std::uint32_t unit_bits, std::uint64_t sectors,
                      std::uint64_t segment_bytes, const std::optional<LogId>& id = {});

// Name of the next layer after @image, in the same folder: "vm.qcow2" and "vm.3.qcow2" give "vm.N.qcow2" with the
// first N above that which is not there.
std::string next_layer_name(const std::string& image);

}  // namespace dmchain::qcow2
