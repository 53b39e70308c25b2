// SPDX-License-Identifier: GPL-2.0-or-later
// See layer_writer.hpp.
#include "chain/layer_writer.hpp"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "chain/builder.hpp"
#include "io/writable.hpp"
#include "qcow2/active.hpp"
#include "qcow2/log_writer.hpp"
#include "qcow2/seal.hpp"

#include "dm-chain-log.h"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr unsigned unit_bits = 12;
static_assert(LayerWriter::unit_bytes == 1u << unit_bits);
constexpr std::uint32_t all_units = (1u << (1u << (index_cluster_bits - unit_bits))) - 1;
constexpr std::uint64_t spare_blocks = 4;  // of the log

void make(const NewLayer& layer) {
    qcow2::ActiveOptions o;
    o.id = layer.id;
    o.size = layer.size;
    o.cluster_bits = index_cluster_bits;
    o.subblock_bits = unit_bits;
    o.backing_name = layer.backing_name;
    o.log_bytes = (2 + spare_blocks + layer.clusters / CHAIN_LOG_MAX_RECORDS) * CHAIN_LOG_BLOCK;
    o.label = layer.label;
    qcow2::make_active(layer.path, o);
}

}  // namespace

class LayerWriter::Work {
public:
    explicit Work(const NewLayer& layer)
        : flat_(layer.backing_name.empty()),
          to_(Writable::open(layer.path)),
          log_(File(layer.path), index_cluster_bits),
          next_(log_.end()) {}

    // @bytes: nullptr: zeroes.
    void put(std::uint64_t start, const unsigned char* bytes, std::uint64_t count) {
        while (count) {
            const std::uint64_t number = start / cluster_bytes, at = start % cluster_bytes;
            const std::uint64_t n = std::min(count, cluster_bytes - at);
            if (number != number_) {
                end_cluster();
                number_ = number;
            }
            const std::uint64_t first = at / unit_bytes, end = (at + n + unit_bytes - 1) / unit_bytes;
            const auto units = static_cast<std::uint32_t>(((std::uint64_t{1} << end) - 1) & ~((std::uint64_t{1} << first) - 1));
            (bytes ? stored_ : zero_) |= units;
            if (bytes) {
                std::memcpy(&buffer_[at], bytes, n);
                bytes += n;
            }
            start += n;
            count -= n;
        }
    }

    void finish() {
        end_cluster();
        to_.resize(std::max(next_, to_.size()));
        to_.sync();
        qcow2::LogWriter(to_, log_.id(), log_.position().next, log_.position().sequence, log_.position().epoch + 1)
            .add_records(records_);
        to_.sync();
    }

private:
    void end_cluster() {
        std::uint32_t stored = std::exchange(stored_, 0), zero = std::exchange(zero_, 0);
        // There is nothing below: all else reads zeroes.
        if (flat_) {
            zero = 0;
            if (stored) stored = all_units;
        }
        std::uint64_t host = 0;
        if (stored) {
            host = std::exchange(next_, next_ + cluster_bytes);
            to_.write(buffer_.data(), buffer_.size(), host);
            std::fill(buffer_.begin(), buffer_.end(), 0);
        }
        if (stored | zero) records_.push_back({htole64(number_), htole64(host), htole64(std::uint64_t{zero} << 32 | stored)});
    }

    const bool flat_;
    Writable to_;
    const qcow2::Log log_;
    std::uint64_t next_;  // byte of the file for the next cluster
    std::uint64_t number_ = 0;
    std::uint32_t stored_ = 0, zero_ = 0;  // units of this cluster
    std::vector<unsigned char> buffer_ = std::vector<unsigned char>(cluster_bytes);
    std::vector<chain_log_record> records_;
};

LayerWriter::LayerWriter(const NewLayer& layer) : path_(layer.path) {
    make(layer);
    work_ = std::make_unique<Work>(layer);
}

LayerWriter::~LayerWriter() = default;

void LayerWriter::data(std::uint64_t start, const void* bytes, std::uint64_t count) {
    work_->put(start, static_cast<const unsigned char*>(bytes), count);
}

void LayerWriter::zero(std::uint64_t start, std::uint64_t count) { work_->put(start, nullptr, count); }

void LayerWriter::finish() {
    work_->finish();
    work_.reset();
    qcow2::seal(path_, {});
}

}  // namespace dmchain::chain
