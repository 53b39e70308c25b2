// SPDX-License-Identifier: GPL-2.0-or-later
// See merge.hpp. The same windows as the index builder's say which layer has which part; what is contiguous is copied at
// once.
#include "chain/merge.hpp"

#include <endian.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <optional>
#include <vector>

#include "chain/builder.hpp"
#include "chain/point_id.hpp"
#include "chain/window.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"
#include "io/writable.hpp"
#include "qcow2/active.hpp"
#include "qcow2/log_writer.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/seal.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr std::size_t batch_jobs = 512;    // for which threads are started
constexpr std::uint64_t spare_blocks = 4;  // of the log

const File& data_of(const qcow2::Layer& l) { return l.data_file() ? *l.data_file() : l.file(); }

// What the merged file says of a cluster. Bits of units, as in a record of the log.
struct Cluster {
    std::uint64_t number;
    std::uint32_t data = 0;    // to be copied
    std::uint32_t stored = 0;  // with data, and with zeroes beside it
    std::uint32_t zero = 0;
    bool assembled = false;  // some of the data has to be put together first
};

class Walk {
public:
    Walk(const qcow2::Chain& range, bool flat)
        : range_(range),
          flat_(flat),
          geometry_{range.virtual_size(), index_cluster_bits,
                    std::min<unsigned>(CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(std::countr_zero(range.unit())))},
          unit_bits_(chain_unit_shift(index_cluster_bits, geometry_.subblock_shift)),
          window_(geometry_) {}

    std::uint32_t unit_bits() const { return unit_bits_; }
    std::uint64_t unit_sectors() const { return (std::uint64_t{1} << unit_bits()) / 512; }

    // Calls @use(cluster, entry) for each cluster that some layer defines; entry(i) is that of its unit i, if it is not assembled.
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
            if (i && layer.virtual_size() < geometry_.bytes) window_.cut(layer.virtual_size());
            layer.map(window_.begin(), window_.end(), scratch_, [&](const qcow2::Extent& x) { window_.apply(x, id); });
        }
        window_.settle();
    }

    template <typename Use>
    void one(std::uint64_t number, std::uint64_t e, const Use& use) const {
        Cluster c{number};
        const std::uint64_t* fine = chain_entry_kind(e) == CHAIN_FINE ? window_.fine(e) : nullptr;
        const std::uint64_t sectors = std::uint64_t{1} << (geometry_.subblock_shift - 9);
        const auto entry = [&](std::uint32_t i) { return fine ? fine[i] : chain_entry_advance(e, i * sectors); };
        // Subblocks that are smaller than what a log can say are there in flat files only, which have no other zeroes.
        const unsigned each = unit_bits_ - geometry_.subblock_shift;
        c.assembled = each != 0;
        for (std::uint32_t i = 0; i < geometry_.subblocks(); i++) {
            const auto kind = chain_entry_kind(entry(i));
            if (kind == CHAIN_HOLE) continue;
            (kind == CHAIN_ZERO ? c.zero : c.data) |= std::uint32_t{1} << (i >> each);
            c.assembled |= kind == CHAIN_COMPRESSED;
        }
        c.stored = c.data;
        if (flat_) {
            c.zero = 0;
            if (c.data) c.stored = ~std::uint32_t{0} >> (32 - (1u << (index_cluster_bits - unit_bits_)));
        }
        if (c.stored | c.zero) use(c, entry);
    }

    const qcow2::Chain& range_;
    const bool flat_;
    const Geometry geometry_;
    const std::uint32_t unit_bits_;
    Window window_;
    qcow2::Scratch scratch_;
};

// Copies pieces, those that follow one another in both files at once, and several pieces at a time.
class Copier {
public:
    Copier(const qcow2::Chain& range, Writable& to, const MergeTo& how, const std::function<void(std::uint64_t)>& progress)
        : range_(range),
          readers_(how.readers ? how.readers : readers_of(range, range.layers().size() - 1)),
          read_all_(how.readers),
          sparse_(how.flat),
          to_(to),
          progress_(progress) {}

    void data(unsigned layer, std::uint64_t from, std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) {
        if (read_all_) return add({nullptr, guest, to, bytes});
        add({&data_of(*range_.layers()[layer]), from, to, bytes});
    }
    // What has to be put together first.
    void read(std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) { add({nullptr, guest, to, bytes}); }
    void flush() {
        if (batch_.empty()) return;
        const std::uint64_t end = batch_.back().to + batch_.back().bytes;
        if (end > to_.size()) to_.resize(end);
        share_out(batch_.size(), copy_threads, [this](Turns& turns, bool reports) { copy(turns, reports); });
        batch_.clear();
    }

private:
    struct Job {
        const File* file;    // nullptr: the disk
        std::uint64_t from;  // byte of the file, or of the disk
        std::uint64_t to;    // byte of the merged file
        std::uint64_t bytes;
    };

    void add(const Job& j) {
        if (!batch_.empty()) {
            Job& last = batch_.back();
            if (j.file == last.file && j.from == last.from + last.bytes && j.to == last.to + last.bytes &&
                last.bytes + j.bytes <= copy_bytes) {
                last.bytes += j.bytes;
                return;
            }
        }
        if (batch_.size() == batch_jobs) flush();
        batch_.push_back(j);
    }

    void copy(Turns& turns, bool reports) {
        const ReadDisk read_disk = readers_();
        std::vector<unsigned char> buffer(copy_bytes);
        while (const auto i = turns.next()) {
            const Job& j = batch_[*i];
            // The last cluster of a file may run past its end.
            if (j.file)
                j.file->read_padded(buffer.data(), j.bytes, j.from);
            else
                read_disk(buffer.data(), j.bytes, j.from);
            // A layer stays as it was stored: the target reads what is no hole faster.
            if (sparse_)
                each_nonzero(buffer.data(), j.bytes,
                             [&](std::size_t at, std::size_t n) { to_.write(&buffer[at], n, j.to + at); });
            else
                to_.write(buffer.data(), j.bytes, j.to);
            const std::uint64_t done = done_ += j.bytes;
            if (reports) progress_(done);
        }
    }

    const qcow2::Chain& range_;
    const Readers readers_;
    const bool read_all_;
    const bool sparse_;  // zeroes are left out
    Writable& to_;
    const std::function<void(std::uint64_t)>& progress_;
    std::vector<Job> batch_;
    std::atomic<std::uint64_t> done_ = 0;
};

// The records, in blocks.
class Records {
public:
    explicit Records(qcow2::LogWriter& log) : log_(log) {}
    void add(const Cluster& c, std::uint64_t host) {
        records_.push_back({htole64(c.number), htole64(host), htole64(std::uint64_t{c.zero} << 32 | c.stored)});
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

MergeSize measure(const qcow2::Chain& range, bool flat) {
    MergeSize out;
    Walk walk(range, flat);
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
    Walk walk(range, target.flat);
    qcow2::ActiveOptions o;
    if (!target.flat) o.id = point_id(range.top());
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
        Copier copier(range, to, target, progress);
        std::uint64_t next = cluster_bytes + segment;
        const std::uint64_t unit = std::uint64_t{1} << walk.unit_bits();
        walk.all([&](const Cluster& c, const auto& entry) {
            const std::uint64_t host = c.stored ? std::exchange(next, next + cluster_bytes) : 0;
            for (std::uint32_t i = 0; i < cluster_bytes / unit;) {
                if (!(c.data >> i & 1)) {
                    i++;
                    continue;
                }
                std::uint32_t n = 1;
                const std::uint64_t guest = (c.number << index_cluster_bits) + i * unit;
                if (c.assembled) {
                    while (i + n < cluster_bytes / unit && c.data >> (i + n) & 1) n++;
                    copier.read(guest, host + i * unit, n * unit);
                } else {
                    const std::uint64_t e = entry(i);
                    while (i + n < cluster_bytes / unit && entry(i + n) == chain_entry_advance(e, n * walk.unit_sectors())) n++;
                    copier.data(chain_entry_layer(e) - 1, chain_entry_pos(e) * 512, guest, host + i * unit, n * unit);
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
