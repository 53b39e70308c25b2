// SPDX-License-Identifier: GPL-2.0-or-later
// See compressed.hpp. Several threads read and compress; what they made is stored in the order of the disk. In the file, in clusters of
// 64 KiB: header, L1 table, then the data and each L2 table behind its data, at last refcount blocks and the refcount table.
#include "chain/compressed.hpp"

#include <zstd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "chain/builder.hpp"
#include "chain/point_id.hpp"
#include "chain/walk.hpp"
#include "io/pace.hpp"
#include "io/turns.hpp"
#include "io/writable.hpp"
#include "io/zeroes.hpp"
#include "qcow2/be_bytes.hpp"
#include "qcow2/format.hpp"
#include "qcow2/header_bytes.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr std::uint64_t counts_in_block = cluster_bytes / 2;  // refcounts, of 16 bits
constexpr std::uint64_t most_counted = 65535;
constexpr std::uint32_t most_clusters = copy_bytes >> index_cluster_bits;  // read at once
constexpr std::size_t batch_jobs = 128;                                    // for which threads are started
constexpr std::uint64_t grow_bytes = 64u << 20;                            // that the file gets longer by

std::uint64_t clusters_for(std::uint64_t bytes) { return (bytes + cluster_bytes - 1) / cluster_bytes; }

// What the file says of a cluster.
struct Stored {
    std::uint64_t number;                // of the disk
    std::uint32_t data = 0;              // subclusters: these, of a cluster that is stored as it is
    std::uint32_t zero = 0;              // these read zeroes
    std::vector<unsigned char> bytes{};  // compressed, or a cluster as it is, or nothing
};

// The file, cluster after cluster, ascending.
class Image {
public:
    // @h: what it is to say, but for the tables.
    Image(const qcow2::Header& h, Writable& to) : h_(h), to_(to), l2_(cluster_bytes) {
        h_.l1_entries = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (h_.size + h_.l2_span() - 1) / h_.l2_span()));
        h_.l1_offset = cluster_bytes;
        l1_ = qcow2::BeBytes(h_.l1_entries * std::uint64_t{8});
        take(1 + clusters_for(l1_.size()));
    }

    void add(const Stored& c) {
        if (const std::uint64_t table = c.number / h_.l2_entries(); table != table_) {
            end_table();
            table_ = table;
        }
        in_table_ = true;
        const std::size_t slot = c.number % h_.l2_entries() * h_.l2_entry_bytes();
        const bool compressed = !c.bytes.empty() && c.bytes.size() < cluster_bytes;
        if (compressed) {
            const std::uint64_t at = take_bytes(c.bytes.size());
            to_.write(c.bytes.data(), c.bytes.size(), at);
            l2_.put64(slot, qcow2::compressed_entry(at, c.bytes.size(), index_cluster_bits));
        } else if (!c.bytes.empty()) {
            const std::uint64_t at = take(1);
            to_.write(c.bytes.data(), c.bytes.size(), at);
            l2_.put64(slot, at | qcow2::flag_copied);
        } else if (!h_.extended_l2()) {
            l2_.put64(slot, qcow2::flag_zero);
        }
        if (h_.extended_l2() && !compressed) l2_.put64(slot + 8, std::uint64_t{c.zero} << 32 | c.data);
    }

    // Durable when this returns.
    void finish() {
        end_table();
        // The refcounts count their own clusters, too.
        std::uint64_t blocks = 0, table = 0;
        const auto all = [&] { return end_ / cluster_bytes + blocks + table; };
        while (blocks * counts_in_block < all() || table * (cluster_bytes / 8) < blocks) {
            blocks = (all() + counts_in_block - 1) / counts_in_block;
            table = clusters_for(blocks * 8);
        }
        const std::uint64_t blocks_at = take(blocks), table_at = take(table);
        qcow2::BeBytes offsets(table * cluster_bytes), counts(blocks * cluster_bytes);
        for (std::uint64_t i = 0; i < blocks; i++) offsets.put64(i * 8, blocks_at + i * cluster_bytes);
        for (std::size_t i = 0; i < counts_.size(); i++) counts.put16(i * 2, counts_[i]);
        to_.write(counts.data(), counts.size(), blocks_at);
        to_.write(offsets.data(), offsets.size(), table_at);
        to_.write(l1_.data(), l1_.size(), h_.l1_offset);
        to_.resize(end_);
        to_.sync();
        h_.refcount_table_offset = table_at;
        h_.refcount_table_clusters = static_cast<std::uint32_t>(table);
        const auto header = qcow2::header_bytes(h_, to_.path());
        to_.write(header.data(), header.size(), 0);
        to_.sync();
    }

private:
    std::uint64_t take(std::uint64_t clusters) {
        counts_.insert(counts_.end(), clusters, 1);
        const std::uint64_t at = std::exchange(end_, end_ + clusters * cluster_bytes);
        if (end_ > to_.size()) to_.resize(end_ + grow_bytes);
        return at;
    }
    // Behind the last stream, if it may go on from there.
    std::uint64_t take_bytes(std::uint64_t bytes) {
        const std::uint64_t room = (cluster_bytes - packed_ % cluster_bytes) % cluster_bytes;
        const bool full = room && counts_[packed_ / cluster_bytes] == most_counted;
        if (full || (bytes > room && packed_ + room != end_)) packed_ = end_;
        const std::uint64_t at = std::exchange(packed_, packed_ + bytes);
        const std::uint64_t first = at / cluster_bytes, last = (packed_ - 1) / cluster_bytes;
        for (std::uint64_t i = first; i <= last; i++) {
            if (i == counts_.size())
                take(1);
            else
                counts_[i]++;
        }
        return at;
    }

    void end_table() {
        if (!std::exchange(in_table_, false)) return;
        const std::uint64_t at = take(1);
        to_.write(l2_.data(), l2_.size(), at);
        l1_.put64(table_ * 8, at | qcow2::flag_copied);
        l2_ = qcow2::BeBytes(cluster_bytes);
    }

    qcow2::Header h_;
    Writable& to_;
    qcow2::BeBytes l1_{0};
    qcow2::BeBytes l2_;  // the table that is being filled
    std::uint64_t table_ = 0;
    bool in_table_ = false;                // it has an entry
    std::uint64_t end_ = 0;                // of the file, in whole clusters
    std::uint64_t packed_ = 0;             // end of the last stream
    std::vector<std::uint16_t> counts_{};  // of each cluster of the file
};

// What becomes of clusters, each 64 KiB of data. Of one thread.
class Compressor {
public:
    Compressor(const Walk& walk, bool flat) : walk_(walk), flat_(flat) {}

    // Nothing: it is left out.
    std::optional<Stored> make(const Cluster& c, const unsigned char* data) {
        constexpr std::uint32_t every = ~std::uint32_t{0};
        const bool whole = walk_.is_whole(c), zero = is_zero(data, cluster_bytes);
        if (whole && zero) return flat_ ? std::nullopt : std::optional(Stored{c.number, 0, every});
        if (whole) return Stored{c.number, every, 0, compress(data)};
        const std::uint32_t units = 1u << (index_cluster_bits - walk_.unit_bits());
        const std::uint32_t d = qcow2::subclusters_of(c.data, units), z = qcow2::subclusters_of(c.zero, units);
        if (zero) return Stored{c.number, 0, d | z};
        return Stored{c.number, d, z, {data, data + cluster_bytes}};
    }

private:
    static constexpr int level = 3;  // zstd's own default

    std::vector<unsigned char> compress(const unsigned char* data) {
        std::vector<unsigned char> out(cluster_bytes);
        // What would not be smaller does not fit.
        const std::size_t n = ZSTD_compressCCtx(context_.get(), out.data(), cluster_bytes - 1, data, cluster_bytes, level);
        if (ZSTD_isError(n)) return {data, data + cluster_bytes};
        out.resize(n);
        return out;
    }

    const Walk& walk_;
    const bool flat_;
    std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context_{ZSTD_createCCtx(), ZSTD_freeCCtx};
};

qcow2::Header header_of(const qcow2::Chain& range, const MergeTo& to, Walk& walk) {
    qcow2::Header h;
    h.cluster_bits = index_cluster_bits;
    h.size = range.virtual_size();
    h.incompatible = qcow2::incompatible_compression;
    h.compression = qcow2::Compression::zstd;
    const auto is_whole = [&](const Cluster& c, const auto&) { return walk.is_whole(c); };
    if (!to.flat && !walk.all(is_whole)) h.incompatible |= qcow2::incompatible_extended_l2;
    h.sealed_unit_bits = walk.unit_bits();
    h.has_id_room = true;
    if (!to.flat) h.sealed_id = point_id(range.top());
    h.label_at = 0;  // header_bytes() knows where
    h.label = to.label;
    if (!to.backing_name.empty()) {
        h.backing_name = to.backing_name;
        h.backing_format = to.backing_format;
    }
    return h;
}

// Clusters that follow one another.
using Job = std::vector<Cluster>;

}  // namespace

bool merge_compressed(const qcow2::Chain& range, const MergeTo& to, const std::function<void(std::uint64_t)>& progress) {
    std::error_code none;
    if (to.goes_on && std::filesystem::exists(to.path, none)) {
        if (is_sealed_as(to.path, range.top())) return true;
        std::filesystem::remove(to.path);
    }
    const std::uint64_t size = range.virtual_size();
    Walk walk(range, to.flat);
    const qcow2::Header header = header_of(range, to, walk);
    const Readers readers = to.readers ? to.readers : readers_of(range, range.layers().size() - 1);
    Writable file = Writable::create(to.path);
    Image image(header, file);
    std::uint64_t done = 0;
    Pace pace(to.rate);
    std::vector<Job> batch;
    const auto store = [&] {
        // Compressing takes the processor: a thread for each.
        share_out(batch.size(), 0, [&](Turns& turns, bool) {
            const ReadDisk read = readers();
            Compressor compressor(walk, to.flat);
            std::vector<unsigned char> buffer(copy_bytes);
            while (const auto i = turns.next()) {
                const Job& job = batch[*i];
                const std::uint64_t at = job.front().number * cluster_bytes;
                const std::uint64_t bytes = std::min(job.size() * cluster_bytes, size - at);
                std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(bytes), buffer.end(), 0);
                read(buffer.data(), bytes, at);
                std::vector<Stored> made;
                std::uint64_t data = 0;
                for (std::size_t k = 0; k < job.size(); k++) {
                    data += walk.data_bytes(job[k]);
                    if (auto stored = compressor.make(job[k], &buffer[k * cluster_bytes])) made.push_back(std::move(*stored));
                }
                turns.in_order(*i, [&] {
                    for (const Stored& s : made) image.add(s);
                    progress(done += data);
                });
                pace.add(data);
            }
        });
        batch.clear();
    };
    const bool all = walk.all([&](const Cluster& c, const auto&) {
        if (batch.empty() || batch.back().size() == most_clusters || batch.back().back().number + 1 != c.number) {
            if (to.stop && to.stop()) return false;
            if (batch.size() == batch_jobs) store();
            batch.emplace_back();
        }
        batch.back().push_back(c);
        return true;
    });
    if (!all) return false;
    store();
    image.finish();
    return true;
}

}  // namespace dmchain::chain
