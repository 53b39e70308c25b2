// SPDX-License-Identifier: GPL-2.0-or-later
// See compressed.hpp. Several threads read and compress; what they made is stored in the order of the disk. In the file, in clusters of
// 64 KiB: header, L1 table, then the data and each L2 table behind its data, at last refcount blocks and the refcount table.
#include "chain/compressed.hpp"

#include <zstd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "chain/builder.hpp"
#include "chain/walk.hpp"
#include "io/turns.hpp"
#include "io/zeroes.hpp"
#include "qcow2/be_bytes.hpp"
#include "qcow2/format.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr std::uint64_t l2_entries = cluster_bytes / 8;
constexpr std::uint64_t counts_in_block = cluster_bytes / 2;  // refcounts, of 16 bits
constexpr std::uint64_t most_counted = 65535;
constexpr std::uint32_t most_clusters = copy_bytes >> index_cluster_bits;  // read at once
constexpr std::size_t batch_jobs = 128;                                    // for which threads are started

std::uint64_t clusters_for(std::uint64_t bytes) { return (bytes + cluster_bytes - 1) / cluster_bytes; }

// A cluster that is stored: compressed, if it has fewer bytes.
struct Stored {
    std::uint64_t number;  // of the disk
    std::vector<unsigned char> bytes;
};

// The file, cluster after cluster, ascending.
class Image {
public:
    Image(std::uint64_t size, Output& out)
        : size_(size),
          l1_entries_(std::max<std::uint64_t>(1, (clusters_for(size) + l2_entries - 1) / l2_entries)),
          l1_(l1_entries_ * 8),
          l2_(cluster_bytes),
          out_(out) {
        take(1 + clusters_for(l1_.size()));
    }

    void add(const Stored& c) {
        if (const std::uint64_t table = c.number / l2_entries; table != table_) {
            end_table();
            table_ = table;
        }
        const std::size_t slot = c.number % l2_entries * 8;
        in_table_ = true;
        if (c.bytes.size() == cluster_bytes) {
            const std::uint64_t at = take(1);
            out_.write(c.bytes.data(), c.bytes.size(), at);
            l2_.put64(slot, at | qcow2::flag_copied);
            return;
        }
        const std::uint64_t at = take_bytes(c.bytes.size());
        out_.write(c.bytes.data(), c.bytes.size(), at);
        l2_.put64(slot, qcow2::compressed_entry(at, c.bytes.size(), index_cluster_bits));
    }

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
        out_.write(counts.data(), counts.size(), blocks_at);
        out_.write(offsets.data(), offsets.size(), table_at);
        out_.write(l1_.data(), l1_.size(), cluster_bytes);
        write_header(table_at, static_cast<std::uint32_t>(table));
        out_.resize(end_);
    }

private:
    std::uint64_t take(std::uint64_t clusters) {
        counts_.insert(counts_.end(), clusters, 1);
        return std::exchange(end_, end_ + clusters * cluster_bytes);
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
        out_.write(l2_.data(), l2_.size(), at);
        l1_.put64(table_ * 8, at | qcow2::flag_copied);
        l2_ = qcow2::BeBytes(cluster_bytes);
    }

    void write_header(std::uint64_t table_at, std::uint32_t table_clusters) {
        constexpr std::uint32_t header_length = 112;
        constexpr unsigned char zstd = 1;
        qcow2::BeBytes h(header_length + 8);  // and the end of the extensions
        h.put32(0, qcow2::magic);
        h.put32(4, 3);
        h.put32(20, index_cluster_bits);
        h.put64(24, size_);
        h.put32(36, static_cast<std::uint32_t>(l1_entries_));
        h.put64(40, cluster_bytes);
        h.put64(48, table_at);
        h.put32(56, table_clusters);
        h.put64(72, qcow2::incompatible_compression);
        h.put32(96, 4);  // refcounts of 16 bits
        h.put32(100, header_length);
        h.put8(104, zstd);
        out_.write(h.data(), h.size(), 0);
    }

    const std::uint64_t size_;
    const std::uint64_t l1_entries_;
    qcow2::BeBytes l1_;
    qcow2::BeBytes l2_;  // the table that is being filled
    std::uint64_t table_ = 0;
    bool in_table_ = false;  // it has an entry
    Output& out_;
    std::uint64_t end_ = 0;                // of the file, in whole clusters
    std::uint64_t packed_ = 0;             // end of the last stream
    std::vector<std::uint16_t> counts_{};  // of each cluster of the file
};

// Compresses clusters. Of one thread.
class Compressor {
public:
    // @data: a cluster. Nothing if it is all zero.
    std::vector<unsigned char> make(const unsigned char* data) {
        if (is_zero(data, cluster_bytes)) return {};
        std::vector<unsigned char> out(cluster_bytes);
        // What would not be smaller does not fit.
        const std::size_t n = ZSTD_compressCCtx(context_.get(), out.data(), cluster_bytes - 1, data, cluster_bytes, level);
        if (ZSTD_isError(n)) return {data, data + cluster_bytes};
        out.resize(n);
        return out;
    }

private:
    static constexpr int level = 3;  // zstd's own default
    std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context_{ZSTD_createCCtx(), ZSTD_freeCCtx};
};

struct Job {
    std::uint64_t first;  // cluster of the disk
    std::uint32_t count;
};

}  // namespace

void write_compressed(const qcow2::Chain& chain, Output& out, const ExportHow& how) {
    const std::uint64_t size = chain.virtual_size();
    Image image(size, out);
    std::vector<Job> batch;
    const auto store = [&] {
        // Compressing takes the processor: a thread for each.
        share_out(batch.size(), 0, [&](Turns& turns, bool) {
            const ReadDisk read = how.readers();
            Compressor compressor;
            std::vector<unsigned char> buffer(copy_bytes);
            while (const auto i = turns.next()) {
                const auto [first, count] = batch[*i];
                const std::uint64_t begin = first * cluster_bytes, bytes = std::min(count * cluster_bytes, size - begin);
                std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(bytes), buffer.end(), 0);
                read(buffer.data(), bytes, begin);
                std::vector<Stored> made;
                for (std::uint32_t k = 0; k < count; k++)
                    if (auto stored = compressor.make(&buffer[k * cluster_bytes]); !stored.empty())
                        made.push_back({first + k, std::move(stored)});
                turns.in_order(*i, [&] {
                    for (const Stored& s : made) image.add(s);
                });
                if (how.progress) how.progress(bytes);
            }
        });
        batch.clear();
    };
    Walk(chain, true).all([&](const Cluster& c, const auto&) {
        if (!batch.empty() && batch.back().count < most_clusters && batch.back().first + batch.back().count == c.number) {
            batch.back().count++;
            return true;
        }
        if (batch.size() == batch_jobs) store();
        batch.push_back({c.number, 1});
        return true;
    });
    store();
    image.finish();
}

}  // namespace dmchain::chain
