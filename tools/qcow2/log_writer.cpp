// SPDX-License-Identifier: GPL-2.0-or-later
// See log_writer.hpp.
#include "qcow2/log_writer.hpp"

#include <endian.h>

#include <algorithm>
#include <cstring>

namespace dmchain::qcow2 {

LogWriter::LogWriter(Writable& to, const LogId& id, std::uint64_t at, std::uint64_t sequence, std::uint32_t epoch)
    : to_(to), at_(at), sequence_(sequence), epoch_(epoch) {
    std::memcpy(salt_, id.data(), sizeof salt_);
}

void LogWriter::add(chain_log_type type, const void* body, std::size_t bytes, std::uint16_t count) {
    chain_log_block b{};
    b.magic = htole32(CHAIN_LOG_BLOCK_MAGIC);
    std::memcpy(b.salt, salt_, sizeof salt_);
    b.sequence = htole64(sequence_++);
    b.epoch = htole32(epoch_);
    b.type = static_cast<__u8>(type);
    b.count = htole16(count);
    if (bytes) std::memcpy(b.body, body, bytes);
    b.crc = htole32(chain_crc32c_more(0, reinterpret_cast<const char*>(&b) + 8, CHAIN_LOG_BLOCK - 8));
    to_.write(&b, sizeof b, at_);
    at_ += CHAIN_LOG_BLOCK;
}

void LogWriter::add_records(const std::vector<chain_log_record>& records) {
    for (std::size_t i = 0; i < records.size(); i += CHAIN_LOG_MAX_RECORDS) {
        const std::size_t n = std::min<std::size_t>(CHAIN_LOG_MAX_RECORDS, records.size() - i);
        add(CHAIN_LOG_RECORDS, &records[i], n * sizeof(chain_log_record), static_cast<std::uint16_t>(n));
    }
}

void LogWriter::go_on_at(std::uint64_t offset, std::uint64_t bytes) {
    const chain_log_next next = {htole64(offset), htole64(bytes)};
    add(CHAIN_LOG_NEXT, &next, sizeof next, 0);
    at_ = offset;
}

}  // namespace dmchain::qcow2
