// SPDX-License-Identifier: GPL-2.0-or-later
// See log.hpp. Whether a block is the log's next one, and says what can be, is decided by the validators that the
// kernel has, too.
#include "qcow2/log.hpp"

#include <algorithm>
#include <cstring>

#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {
namespace {

constexpr std::size_t blocks_at_once = 64;
// Records are put in order when they have become twice as many as clusters, and at least this many.
constexpr std::size_t min_unsettled = 1u << 16;

Error fault_error(const std::string& name, std::uint64_t at, const chain_fault& f) {
    return damaged("{}: log at byte {}: {} is {}, expected {}{}{}", name, at + f.at, f.what, f.found, f.bound,
                   *f.bound ? " " : "", f.expected);
}

std::uint32_t low(std::uint64_t bitmap) { return static_cast<std::uint32_t>(bitmap); }
std::uint32_t high(std::uint64_t bitmap) { return static_cast<std::uint32_t>(bitmap >> 32); }

}  // namespace

class Log::Reader {
public:
    Reader(Log& log, const File& file) : log_(log), file_(file), name_(escaped(file.path())), blocks_(blocks_at_once) {}

    void head() {
        chain_log_head h;
        chain_fault fault{};
        const std::uint64_t at = std::uint64_t{1} << log_.cluster_bits_;
        file_.read_padded(&h, sizeof h, at);
        if (!chain_check_log_head(&h, log_.cluster_bits_, file_.size(), &fault)) throw fault_error(name_, at, fault);
        std::memcpy(log_.id_.data(), h.uuid, log_.id_.size());
        log_.unit_bits_ = h.unit_shift;
        log_.sectors_ = chain_le64(h.sectors);
        const Segment first = {at, chain_le64(h.segment_bytes)};
        log_.segments_.push_back(first);
        log_.position_ = {first, at + CHAIN_LOG_BLOCK, 1, 0};

        geometry_.cluster_shift = log_.cluster_bits_;
        geometry_.unit_shift = log_.unit_bits_;
        std::memcpy(geometry_.salt, h.uuid, sizeof geometry_.salt);
    }

    void blocks() {
        Position& p = log_.position_;
        while (const chain_log_block* b = next()) {
            chain_fault fault{};
            geometry_.clusters = chain_clusters(log_.sectors_, log_.cluster_bits_);
            if (!chain_check_log_block(&geometry_, b, p.sequence, p.epoch, &fault)) {
                if (fault.what) throw fault_error(name_, p.next, fault);
                return;
            }
            p.next += CHAIN_LOG_BLOCK;
            p.sequence++;
            p.epoch = chain_le32(b->epoch);
            if (!take(*b)) return;
        }
    }

private:
    // The block at the log's position, or nullptr: the segment ends there.
    const chain_log_block* next() {
        const Position& p = log_.position_;
        const std::uint64_t left = p.segment.offset + p.segment.bytes - p.next;
        if (left < CHAIN_LOG_BLOCK) return nullptr;
        if (p.next < read_from_ || p.next >= read_to_) {
            const std::uint64_t bytes = std::min<std::uint64_t>(left, blocks_.size() * CHAIN_LOG_BLOCK);
            file_.read_padded(blocks_.data(), bytes & ~std::uint64_t{CHAIN_LOG_BLOCK - 1}, p.next);
            // A device may write to the layer meanwhile: the file has grown before a record names a place in it.
            geometry_.layer_bytes = file_.size_now();
            read_from_ = p.next;
            read_to_ = p.next + (bytes & ~std::uint64_t{CHAIN_LOG_BLOCK - 1});
        }
        return &blocks_[(p.next - read_from_) / CHAIN_LOG_BLOCK];
    }

    // Returns whether more may follow.
    bool take(const chain_log_block& b) {
        switch (b.type) {
        case CHAIN_LOG_RECORDS: records(b); return true;
        case CHAIN_LOG_NEXT: {
            chain_log_next n;
            std::memcpy(&n, b.body, sizeof n);
            const Segment s = {chain_le64(n.offset), chain_le64(n.bytes)};
            log_.segments_.push_back(s);
            log_.position_.segment = s;
            log_.position_.next = s.offset;
            return true;
        }
        case CHAIN_LOG_RESIZE: {
            __le64 sectors;
            std::memcpy(&sectors, b.body, sizeof sectors);
            log_.sectors_ = chain_le64(sectors);
            // What a smaller disk cut off does not come back with a larger one.
            const std::uint64_t clusters = chain_clusters(log_.sectors_, log_.cluster_bits_);
            std::erase_if(log_.clusters_, [&](const Cluster& c) { return c.cluster >= clusters; });
            return true;
        }
        default: {
            chain_log_close c;
            std::memcpy(&c, b.body, sizeof c);
            Successor s;
            std::memcpy(s.id.data(), c.uuid, s.id.size());
            s.path.assign(reinterpret_cast<const char*>(c.path), chain_le16(c.path_bytes));
            log_.successor_ = std::move(s);
            return false;
        }
        }
    }

    void records(const chain_log_block& b) {
        for (std::size_t i = 0; i < chain_le16(b.count); i++) {
            chain_log_record r;
            std::memcpy(&r, b.body + i * sizeof r, sizeof r);
            log_.clusters_.push_back({chain_le64(r.cluster), chain_le64(r.host), chain_le64(r.bitmap)});
        }
        if (log_.clusters_.size() >= settle_at_) {
            log_.settle();
            settle_at_ = std::max(min_unsettled, 2 * log_.clusters_.size());
        }
    }

    Log& log_;
    const File& file_;
    const std::string name_;
    chain_log_geometry geometry_{};
    std::vector<chain_log_block> blocks_;
    std::uint64_t read_from_ = 0;  // what of the file is in blocks_
    std::uint64_t read_to_ = 0;
    std::size_t settle_at_ = min_unsettled;
};

Log::Log(const File& file, std::uint32_t cluster_bits) : cluster_bits_(cluster_bits) {
    const std::string name = escaped(file.path());
    if (cluster_bits < CHAIN_MIN_CLUSTER_SHIFT)
        throw damaged("{}: cluster_bits at offset 20 is {}, expected at least {} in a layer of dm-chain", name, cluster_bits,
                      CHAIN_MIN_CLUSTER_SHIFT);
    Reader reader(*this, file);
    reader.head();
    reader.blocks();
    settle();
    clusters_.shrink_to_fit();
    check_places(name);
    for (const Segment& s : segments_) end_ = std::max(end_, s.offset + s.bytes);
    for (const Cluster& c : clusters_)
        if (c.host) end_ = std::max(end_, c.host + (std::uint64_t{1} << cluster_bits_));
}

// Leaves of each cluster's records the last one, in the order of the clusters.
void Log::settle() {
    std::stable_sort(clusters_.begin(), clusters_.end(),
                     [](const Cluster& a, const Cluster& b) { return a.cluster < b.cluster; });
    std::size_t n = 0;
    for (std::size_t i = 0; i < clusters_.size(); i++) {
        if (i + 1 < clusters_.size() && clusters_[i + 1].cluster == clusters_[i].cluster) continue;
        if (clusters_[i].bitmap) clusters_[n++] = clusters_[i];
    }
    clusters_.resize(n);
}

// The kernel's records name each cluster of the layer once, and none of the log's.
void Log::check_places(const std::string& name) const {
    const std::uint64_t cluster = std::uint64_t{1} << cluster_bits_;
    struct Use {
        std::uint64_t offset, bytes;
    };
    std::vector<Use> uses = {{0, cluster}};
    uses.reserve(1 + segments_.size() + clusters_.size());
    for (const Segment& s : segments_) uses.push_back({s.offset, s.bytes});
    for (const Cluster& c : clusters_)
        if (c.host) uses.push_back({c.host, cluster});
    std::sort(uses.begin(), uses.end(), [](const Use& a, const Use& b) { return a.offset < b.offset; });
    for (std::size_t i = 1; i < uses.size(); i++)
        if (uses[i].offset - uses[i - 1].offset < uses[i - 1].bytes)
            throw damaged("{}: cluster at {:#x} is used twice by the log's records or by the log itself, expected one use", name,
                          uses[i].offset);
}

std::uint32_t Log::units_of(std::uint64_t cluster) const {
    const std::uint64_t begin = cluster << cluster_bits_;
    const std::uint64_t there = std::min(size() - begin, std::uint64_t{1} << cluster_bits_);
    const std::uint64_t n = (there + (std::uint64_t{1} << unit_bits_) - 1) >> unit_bits_;
    return n == 32 ? 0xffffffffu : (1u << n) - 1;
}

void Log::map(std::uint64_t begin, std::uint64_t end, Sink sink) const {
    end = std::min(end, size());
    if (begin >= end) return;
    Joiner joiner(begin, end, sink);
    auto c = std::lower_bound(clusters_.begin(), clusters_.end(), begin >> cluster_bits_,
                              [](const Cluster& a, std::uint64_t b) { return a.cluster < b; });
    const std::uint64_t last = (end - 1) >> cluster_bits_;
    const std::uint32_t all = units() == 32 ? 0xffffffffu : (1u << units()) - 1;
    for (; c != clusters_.end() && c->cluster <= last; ++c) {
        const std::uint64_t guest = c->cluster << cluster_bits_;
        if (low(c->bitmap) == all || high(c->bitmap) == all) {
            joiner.add(guest, std::uint64_t{1} << cluster_bits_, low(c->bitmap) ? Kind::data : Kind::zero, c->host);
            continue;
        }
        for (std::uint32_t i = 0; i < units(); i++) {
            const std::uint64_t at = std::uint64_t{i} << unit_bits_;
            if (low(c->bitmap) >> i & 1)
                joiner.add(guest + at, std::uint64_t{1} << unit_bits_, Kind::data, c->host + at);
            else if (high(c->bitmap) >> i & 1)
                joiner.add(guest + at, std::uint64_t{1} << unit_bits_, Kind::zero, 0);
        }
    }
    joiner.flush();
}

}  // namespace dmchain::qcow2
