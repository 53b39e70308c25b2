// SPDX-License-Identifier: GPL-2.0-or-later
// Appends blocks to a log: of a sealed layer that goes on, of a merged file. The target writes its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/crc32c.hpp"
#include "io/writable.hpp"
#include "qcow2/log.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {

class LogWriter {
public:
    // The first block goes to byte @at of @to; @id: the log's, as its head has it. @sequence and @epoch: of that block.
    LogWriter(Writable& to, const LogId& id, std::uint64_t at, std::uint64_t sequence = 1, std::uint32_t epoch = 1);

    // A block with @bytes of @body; @count: how many records these are.
    void add(chain_log_type type, const void* body, std::size_t bytes, std::uint16_t count);
    // As many blocks as they need.
    void add_records(const std::vector<chain_log_record>& records);
    // The next block begins a segment of @bytes at byte @offset.
    void go_on_at(std::uint64_t offset, std::uint64_t bytes);

private:
    Writable& to_;
    std::uint64_t at_;
    std::uint64_t sequence_;
    std::uint32_t epoch_;
    __u8 salt_[8];
};

}  // namespace dmchain::qcow2
