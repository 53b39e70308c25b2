// SPDX-License-Identifier: GPL-2.0-or-later
// See merge.hpp. The same windows as the index builder's say which layer has which part; what is contiguous is copied at
// once.
#include "chain/merge.hpp"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <vector>

#include "chain/builder.hpp"
#include "chain/window.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/active.hpp"
#include "qcow2/log_writer.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/seal.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr std::uint64_t piece_bytes = 1u << 20;  // copied at once
constexpr std::uint64_t spare_blocks = 4;        // of the log

const File& data_of(const qcow2::Layer& l) { return l.data_file() ? *l.data_file() : l.file(); }

// What the merged file says of a cluster. Bits of units, as in a record of the log.
struct Cluster {
    std::uint64_t number;
    std::uint32_t data = 0, zero = 0;
    bool compressed = false;  // some of the data is
};

class Walk {
public:
    explicit Walk(const qcow2::Chain& range)
        : range_(range),
          geometry_{range.virtual_size(), index_cluster_bits,
                    std::min<unsigned>(CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(std::countr_zero(range.unit())))},
          window_(geometry_) {}

    std::uint32_t unit_bits() const { return geometry_.subblock_shift; }
    std::uint64_t unit_sectors() const { return (std::uint64_t{1} << unit_bits()) / 512; }

    // Calls @use(cluster, entry) for each cluster that some layer defines; entry(i) is that of its unit i.
    template <typename Use>
    void all(const Use& use) {
        for (std::uint64_t first = 0; first < geometry_.clusters(); first += Window::cells) {
            fill(first);
            for (std::uint32_t cell = 0; cell < window_.used(); cell++) one(first + cell, window_.entry(cell), use);
        }
    }

private:
    void fill(std::uint64_t first) {
        window_.clear(first);
        for (std::size_t i = 0; i < range_.layers().size(); i++) {
            const qcow2::Layer& layer = *range_.layers()[i];
            const auto id = static_cast<unsigned>(i + 1);
            layer.map(window_.begin(), window_.end(), scratch_, [&](const qcow2::Extent& x) { window_.apply(x, id); });
        }
        window_.settle();
    }

    template <typename Use>
    void one(std::uint64_t number, std::uint64_t e, const Use& use) const {
        Cluster c{number};
        const std::uint64_t* fine = chain_entry_kind(e) == CHAIN_FINE ? window_.fine(e) : nullptr;
        const auto entry = [&](std::uint32_t i) { return fine ? fine[i] : chain_entry_advance(e, i * unit_sectors()); };
        for (std::uint32_t i = 0; i < geometry_.subblocks(); i++) {
            const auto kind = chain_entry_kind(entry(i));
            if (kind == CHAIN_HOLE) continue;
            (kind == CHAIN_ZERO ? c.zero : c.data) |= std::uint32_t{1} << i;
            c.compressed |= kind == CHAIN_COMPRESSED;
        }
        if (c.data | c.zero) use(c, entry);
    }

    const qcow2::Chain& range_;
    const Geometry geometry_;
    Window window_;
    qcow2::Scratch scratch_;
};

// Copies pieces, those that follow one another in both files at once.
class Copier {
public:
    Copier(const qcow2::Chain& range, Writable& to, const std::function<void(std::uint64_t)>& progress)
        : range_(range), reader_(range), to_(to), progress_(progress), buffer_(piece_bytes) {}

    void data(unsigned layer, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
        if (bytes_ && layer == layer_ && from == from_ + bytes_ && to == at_ + bytes_ && bytes_ + bytes <= piece_bytes) {
            bytes_ += bytes;
            return;
        }
        flush();
        layer_ = layer;
        from_ = from;
        at_ = to;
        bytes_ = bytes;
    }
    // What has to be put together first.
    void read(std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) {
        flush();
        reader_.read(buffer_.data(), bytes, guest);
        write(to, bytes);
    }
    void flush() {
        if (!bytes_) return;
        // The last cluster of a file may run past its end.
        data_of(*range_.layers()[layer_]).read_padded(buffer_.data(), bytes_, from_);
        write(at_, bytes_);
        bytes_ = 0;
    }

private:
    void write(std::uint64_t at, std::uint64_t bytes) {
        to_.write(buffer_.data(), bytes, at);
        done_ += bytes;
        progress_(done_);
    }

    const qcow2::Chain& range_;
    qcow2::Reader reader_;
    Writable& to_;
    const std::function<void(std::uint64_t)>& progress_;
    std::vector<unsigned char> buffer_;
    std::uint64_t bytes_ = 0, from_ = 0, at_ = 0, done_ = 0;
    unsigned layer_ = 0;
};

// The records, in blocks.
class Records {
public:
    explicit Records(qcow2::LogWriter& log) : log_(log) {}
    void add(const Cluster& c, std::uint64_t host) {
        records_.push_back({htole64(c.number), htole64(host), htole64(std::uint64_t{c.zero} << 32 | c.data)});
        if (records_.size() == CHAIN_LOG_MAX_RECORDS) flush();
    }
    void flush() {
        log_.add(CHAIN_LOG_RECORDS, records_.data(), records_.size() * sizeof(chain_log_record),
                 static_cast<std::uint16_t>(records_.size()));
        records_.clear();
    }

private:
    qcow2::LogWriter& log_;
    std::vector<chain_log_record> records_;
};

std::uint64_t log_bytes(std::uint64_t clusters) {
    return (1 + clusters / CHAIN_LOG_MAX_RECORDS + 1 + spare_blocks) * CHAIN_LOG_BLOCK;
}

}  // namespace

void require_mergeable(const qcow2::Chain& range) {
    for (const auto& l : range.layers())
        if (l->image() && l->image()->log())
            throw failed("{}: is not sealed: only sealed layers are merged", escaped(l->file().path()));
    if (range.unit() < cluster_bytes / CHAIN_LOG_MAX_UNITS)
        throw failed("{}: some layer from here down has clusters of {} bytes, expected at least {}: it cannot be merged",
                     escaped(range.top().file().path()), range.unit(), cluster_bytes / CHAIN_LOG_MAX_UNITS);
}

void require_not_shrunk(const qcow2::Chain& range_and_below) {
    const qcow2::Layer* below = nullptr;
    for (const auto& l : range_and_below.layers()) {
        if (below && l->virtual_size() < below->virtual_size())
            throw failed("{}: has {} bytes of disk, the layer below it {}: layers of a disk that shrank cannot be merged",
                         escaped(l->file().path()), l->virtual_size(), below->virtual_size());
        below = l.get();
    }
}

MergeSize measure(const qcow2::Chain& range) {
    MergeSize out;
    Walk walk(range);
    std::uint64_t stored = 0;
    walk.all([&](const Cluster& c, const auto&) {
        out.clusters++;
        stored += c.data != 0;
        out.bytes += static_cast<std::uint64_t>(std::popcount(c.data)) << walk.unit_bits();
    });
    // L2 entries of 16 bytes, refcounts of 2, the log while it is made, and some clusters for what is rounded up.
    out.space = stored * (cluster_bytes + 16 + 2) + log_bytes(out.clusters) + 16 * cluster_bytes;
    return out;
}

void merge(const qcow2::Chain& range, const MergeSize& size, const MergeTo& target,
           const std::function<void(std::uint64_t)>& progress) {
    Walk walk(range);
    qcow2::ActiveOptions o;
    o.size = range.virtual_size();
    o.cluster_bits = index_cluster_bits;
    o.subblock_bits = walk.unit_bits();
    o.backing_name = target.backing_name;
    o.backing_format = target.backing_format;
    o.log_bytes = log_bytes(size.clusters);
    o.label = target.label;
    qcow2::make_active(target.path, o);
    {
        Writable to = Writable::open(target.path);
        const File file(target.path);
        const qcow2::Log empty(file, index_cluster_bits);
        const std::uint64_t segment = empty.segments().front().bytes;
        qcow2::LogWriter log(to, empty.id(), cluster_bytes + CHAIN_LOG_BLOCK);
        Records records(log);
        Copier copier(range, to, progress);
        std::uint64_t next = cluster_bytes + segment;
        const std::uint64_t unit = std::uint64_t{1} << walk.unit_bits();
        walk.all([&](const Cluster& c, const auto& entry) {
            const std::uint64_t host = c.data ? std::exchange(next, next + cluster_bytes) : 0;
            for (std::uint32_t i = 0; i < cluster_bytes / unit;) {
                if (!(c.data >> i & 1)) {
                    i++;
                    continue;
                }
                std::uint32_t n = 1;
                if (c.compressed) {
                    while (i + n < cluster_bytes / unit && c.data >> (i + n) & 1) n++;
                    copier.read((c.number << index_cluster_bits) + i * unit, host + i * unit, n * unit);
                } else {
                    const std::uint64_t e = entry(i);
                    while (i + n < cluster_bytes / unit && entry(i + n) == chain_entry_advance(e, n * walk.unit_sectors())) n++;
                    copier.data(chain_entry_layer(e) - 1, chain_entry_pos(e) * 512, host + i * unit, n * unit);
                }
                i += n;
            }
            records.add(c, host);
        });
        copier.flush();
        records.flush();
        to.resize(next);  // the last cluster may be stored in part
        to.sync();
    }
    qcow2::seal(target.path, {});
}

}  // namespace dmchain::chain
