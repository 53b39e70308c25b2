// SPDX-License-Identifier: GPL-2.0-or-later
// See merge.hpp. The same windows as the index builder's say which layer has which part; what is contiguous is copied at
// once.
#include "chain/merge.hpp"

#include <endian.h>
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>
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
constexpr std::size_t batch_jobs = 128;              // for which threads are started
constexpr std::uint64_t durable_bytes = 256u << 20;  // of data, after which a merge that is cut off can go on
constexpr std::uint64_t spare_blocks = 4;            // of the log

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
          rate_(how.rate),
          // So that it can be told to stop every second or so.
          most_jobs_(how.rate ? std::clamp<std::uint64_t>(how.rate / copy_bytes, 1, batch_jobs) : batch_jobs),
          progress_(progress) {}

    void data(unsigned layer, std::uint64_t from, std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) {
        if (read_all_) return add({nullptr, guest, to, bytes});
        add({&data_of(*range_.layers()[layer]), from, to, bytes});
    }
    // What has to be put together first.
    void read(std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) { add({nullptr, guest, to, bytes}); }
    // They are there already.
    void skip(std::uint64_t bytes) { skipped_ = done_ += bytes; }
    void flush() {
        if (batch_.empty()) return;
        const std::uint64_t end = batch_.back().to + batch_.back().bytes;
        if (end > to_.size()) to_.resize(end);
        share_out(batch_.size(), copy_threads, [this](Turns& turns, bool reports) { copy(turns, reports); });
        batch_.clear();
        progress_(done_);
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
        if (batch_.size() >= most_jobs_) flush();
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
            if (rate_)
                std::this_thread::sleep_until(begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                                                           static_cast<double>(done - skipped_) / static_cast<double>(rate_))));
        }
    }

    using Clock = std::chrono::steady_clock;

    const qcow2::Chain& range_;
    const Readers readers_;
    const bool read_all_;
    const bool sparse_;  // zeroes are left out
    Writable& to_;
    const std::uint64_t rate_;
    const std::uint64_t most_jobs_;
    const Clock::time_point begin_ = Clock::now();
    const std::function<void(std::uint64_t)>& progress_;
    std::vector<Job> batch_;
    std::uint64_t skipped_ = 0;
    std::atomic<std::uint64_t> done_ = 0;
};

// What the log says, and that nothing is said before its data are durable.
class Records {
public:
    Records(qcow2::LogWriter& log, Copier& copier, Writable& to) : log_(log), copier_(copier), to_(to) {}

    void add(const Cluster& c, std::uint64_t host) {
        records_.push_back({htole64(c.number), htole64(host), htole64(std::uint64_t{c.zero} << 32 | c.stored)});
        if (records_.size() * cluster_bytes >= durable_bytes) write();
    }
    // All so far.
    void write() {
        copier_.flush();
        to_.sync();
        for (std::size_t i = 0; i < records_.size(); i += CHAIN_LOG_MAX_RECORDS) {
            const std::size_t n = std::min<std::size_t>(CHAIN_LOG_MAX_RECORDS, records_.size() - i);
            log_.add(CHAIN_LOG_RECORDS, &records_[i], n * sizeof(chain_log_record), static_cast<std::uint16_t>(n));
        }
        records_.clear();
    }

private:
    qcow2::LogWriter& log_;
    Copier& copier_;
    Writable& to_;
    std::vector<chain_log_record> records_;
};

// That records of so many clusters take. Blocks may be filled in part whenever data were made durable.
std::uint64_t record_bytes(std::uint64_t clusters) {
    const std::uint64_t times = clusters / (durable_bytes / cluster_bytes) + 1;
    return (clusters / CHAIN_LOG_MAX_RECORDS + times) * CHAIN_LOG_BLOCK;
}

std::uint64_t log_bytes(std::uint64_t clusters) { return (1 + spare_blocks) * CHAIN_LOG_BLOCK + record_bytes(clusters); }

// Where a merge goes on that was cut off.
struct Left {
    std::uint64_t next;                   // byte of the file for the next cluster
    std::uint64_t log_at;                 // byte of the next block of the log
    std::uint64_t sequence;               // of that block
    std::uint32_t epoch;                  // of that block
    std::optional<std::uint64_t> last{};  // cluster that is there
};

// In the file @path, which is as merge() left it. Nothing: it cannot go on, for whatever reason.
std::optional<Left> find_left(const std::string& path, std::uint64_t bytes, std::uint32_t unit_bits, std::uint64_t clusters) {
    std::error_code none;
    if (!std::filesystem::exists(path, none)) return std::nullopt;
    try {
        const File file(path);
        if (!qcow2::is_in_use(file)) return std::nullopt;  // its header was not written yet
        const qcow2::Log log(file, index_cluster_bits);
        const qcow2::Log::Position& p = log.position();
        const std::uint64_t segment = log.segments().front().bytes;
        if (log.size() != bytes || log.unit_bits() != unit_bits || log.segments().size() != 1 || log.clusters().size() > clusters)
            return std::nullopt;
        if (p.next + record_bytes(clusters - log.clusters().size()) > cluster_bytes + segment) return std::nullopt;
        Left out{cluster_bytes + segment, p.next, p.sequence, p.epoch + 1};
        for (const qcow2::Log::Cluster& c : log.clusters()) {
            out.next = std::max(out.next, c.host + cluster_bytes);
            out.last = c.cluster;
        }
        return out;
    } catch (const Error&) {
        return std::nullopt;
    }
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

namespace {

// Has @copier copy the data of the cluster, to byte @host.
template <typename Entry>
void copy_cluster(const Walk& walk, const Cluster& c, const Entry& entry, std::uint64_t host, Copier& copier) {
    const std::uint64_t unit = std::uint64_t{1} << walk.unit_bits();
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
}

// The file @target.path as make_active() leaves it.
Left make_file(const qcow2::Chain& range, const MergeSize& size, const MergeTo& target, std::uint32_t unit_bits) {
    qcow2::ActiveOptions o;
    if (!target.flat) o.id = point_id(range.top());
    o.size = range.virtual_size();
    o.cluster_bits = index_cluster_bits;
    o.subblock_bits = unit_bits;
    o.backing_name = target.backing_name;
    o.backing_format = target.backing_format;
    o.log_bytes = log_bytes(size.clusters);
    o.label = target.label;
    qcow2::make_active(target.path, o);
    return *find_left(target.path, o.size, unit_bits, size.clusters);
}

// Whether all was copied.
bool fill(const qcow2::Chain& range, const MergeTo& target, Walk& walk, Left left,
          const std::function<void(std::uint64_t)>& progress) {
    Writable to = Writable::open(target.path);
    const qcow2::LogId id = qcow2::Log(File(target.path), index_cluster_bits).id();
    qcow2::LogWriter log(to, id, left.log_at, left.sequence, left.epoch);
    Copier copier(range, to, target, progress);
    Records records(log, copier, to);
    bool stopped = false;
    walk.all([&](const Cluster& c, const auto& entry) {
        if (left.last && c.number <= *left.last)
            return copier.skip(static_cast<std::uint64_t>(std::popcount(c.data)) << walk.unit_bits());
        stopped = stopped || (target.stop && target.stop());
        if (stopped) return;
        const std::uint64_t host = c.stored ? std::exchange(left.next, left.next + cluster_bytes) : 0;
        copy_cluster(walk, c, entry, host, copier);
        records.add(c, host);
    });
    records.write();
    if (!stopped) to.resize(left.next);  // the last cluster may be stored in part
    to.sync();
    return !stopped;
}

}  // namespace

bool merge(const qcow2::Chain& range, const MergeSize& size, const MergeTo& target,
           const std::function<void(std::uint64_t)>& progress) {
    Walk walk(range, target.flat);
    std::error_code none;
    std::optional<Left> left;
    if (target.goes_on && std::filesystem::exists(target.path, none)) {
        // Sealed: all was done but to say so.
        const File file(target.path);
        if (qcow2::has_magic(file) && !qcow2::is_in_use(file)) {
            qcow2::seal(target.path, {});
            return true;
        }
        left = find_left(target.path, range.virtual_size(), walk.unit_bits(), size.clusters);
        if (!left) std::filesystem::remove(target.path);
    }
    if (!left) left = make_file(range, size, target, walk.unit_bits());
    if (!fill(range, target, walk, *left, progress)) return false;
    qcow2::seal(target.path, {});
    return true;
}

void require_same(const qcow2::Chain& range, const std::string& path) {
    qcow2::ChainOptions o;
    o.depth = 1;
    o.allow = {std::filesystem::path(path).parent_path().string()};
    const qcow2::Chain merged(path, o);
    ::posix_fadvise(merged.top().file().fd(), 0, 0, POSIX_FADV_DONTNEED);
    const std::uint64_t bytes = range.virtual_size();
    share_out((bytes + copy_bytes - 1) / copy_bytes, copy_threads, [&](Turns& turns, bool) {
        qcow2::Reader old(range), now(merged);
        std::vector<unsigned char> a(copy_bytes), b(copy_bytes);
        while (const auto i = turns.next()) {
            const std::uint64_t at = *i * copy_bytes, n = std::min(copy_bytes, bytes - at);
            old.read(a.data(), n, at);
            now.read(b.data(), n, at);
            const auto differs =
                std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first - a.begin();
            if (static_cast<std::uint64_t>(differs) < n)
                throw failed(
                    "{}: byte {} of the disk is not what the layers have: the storage may be faulty; run the command again",
                    escaped(path), at + static_cast<std::uint64_t>(differs));
        }
    });
}

}  // namespace dmchain::chain
