// SPDX-License-Identifier: GPL-2.0-or-later
// See merge.hpp. walk.hpp says which layer has which part; copier.hpp copies what is contiguous at once.
#include "chain/merge.hpp"

#include <endian.h>
#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <filesystem>
#include <optional>
#include <vector>

#include "chain/builder.hpp"
#include "chain/copier.hpp"
#include "chain/point_id.hpp"
#include "chain/walk.hpp"
#include "io/no_room.hpp"
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
// Data are made durable, so that a merge that is cut off can go on, after so many bytes, but not more often than that, as a disk may take
// long for it; and after the most bytes in any case.
constexpr std::uint64_t durable_bytes = 256u << 20, durable_most = std::uint64_t{4} << 30;
constexpr std::chrono::seconds durable_time(5);
constexpr std::uint64_t spare_blocks = 4;          // of the log
constexpr std::uint64_t sample_bytes = 64u << 20;  // that are copied to see how fast that goes

// What the log says, and that nothing is said before its data are durable, of a file that can go on after a cut.
class Records {
public:
    Records(const Walk& walk, qcow2::LogWriter& log, Copier& copier, Writable& to, const MergeTo& target)
        : walk_(walk), log_(log), copier_(copier), to_(to), flat_(target.flat), goes_on_(target.goes_on) {}

    // @host: byte of the file, one cluster behind the one of the last call; 0: nothing is stored.
    void add(const Cluster& c, std::uint64_t host) {
        if (host) stored_.push_back(pending_.size());
        pending_.push_back({c, host});
        const std::uint64_t bytes = pending_.size() * cluster_bytes;
        if (bytes >= durable_most || (bytes >= durable_bytes && Clock::now() - written_ >= durable_time)) write();
    }
    // All so far.
    void write() {
        copier_.flush();
        drop_zeroes();
        if (goes_on_) to_.sync();
        std::vector<chain_log_record> records;
        records.reserve(pending_.size());
        for (const auto& [c, host, zeroes] : pending_)
            if (c.stored | c.zero)
                records.push_back({htole64(c.number), htole64(host), htole64(std::uint64_t{c.zero} << 32 | c.stored)});
        log_.add_records(records);
        pending_.clear();
        stored_.clear();
        written_ = Clock::now();
    }

private:
    using Clock = std::chrono::steady_clock;
    struct Pending {
        Cluster cluster;
        std::uint64_t host;
        std::uint64_t zeroes = 0;  // bytes of its data that were left out
    };

    // A cluster whose data are all zero is not stored.
    void drop_zeroes() {
        const std::vector<Copier::Zeroes> zeroes = copier_.take_zeroes();
        const auto cluster_at = [&](std::uint64_t byte) -> Pending& {
            return pending_[stored_[(byte - pending_[stored_.front()].host) / cluster_bytes]];
        };
        for (const Copier::Zeroes& z : zeroes) cluster_at(z.to).zeroes += z.bytes;
        // In a layer the target reads what is no hole faster.
        if (!flat_)
            for (const Copier::Zeroes& z : zeroes)
                if (const Pending& p = cluster_at(z.to); p.zeroes < walk_.data_bytes(p.cluster)) to_.write_zeroes(z.bytes, z.to);
        for (const std::size_t i : stored_) {
            Pending& p = pending_[i];
            if (p.zeroes < walk_.data_bytes(p.cluster)) continue;
            if (!flat_) to_.punch(p.host, cluster_bytes);
            p.host = 0;
            p.cluster.stored = 0;
            if (!flat_) p.cluster.zero |= p.cluster.data;
        }
    }

    const Walk& walk_;
    qcow2::LogWriter& log_;
    Copier& copier_;
    Writable& to_;
    const bool flat_;
    const bool goes_on_;
    Clock::time_point written_ = Clock::now();
    std::vector<Pending> pending_;
    std::vector<std::size_t> stored_;  // numbers of those that have a host, which lie one behind the other
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

void require_not_shrunk(std::uint64_t below, const qcow2::Chain& range) {
    for (const auto& l : range.layers()) {
        if (l->virtual_size() < below)
            throw failed("{}: has {} bytes of disk, the layer below it {}: layers of a disk that shrank cannot be merged",
                         escaped(l->file().path()), l->virtual_size(), below);
        below = l->virtual_size();
    }
}

MergeSize measure(const qcow2::Chain& range, bool flat, std::uint64_t block) {
    MergeSize out;
    Walk walk(range, flat);
    std::uint64_t stored = 0;
    walk.all([&](const Cluster& c, const auto& entry) {
        out.clusters++;
        stored += c.data != 0;
        out.bytes += walk.data_bytes(c);
        if (block)
            walk.each_data(c, entry, [&](const Walk::Data& d) {
                if (!d.assembled && (d.guest | d.from | d.bytes) % block == 0) out.shareable += d.bytes;
            });
        return true;
    });
    // L2 entries of 16 bytes, refcounts of 2, the log while it is made, and some clusters for what is rounded up.
    out.space = stored * (cluster_bytes + 16 + 2) + log_bytes(out.clusters) + 16 * cluster_bytes;
    return out;
}

namespace {

// The data of a cluster go to the cluster @host of the file.
template <typename Entry>
void copy_data(const Walk& walk, const Cluster& c, const Entry& entry, std::uint64_t host, Copier& copier) {
    walk.each_data(c, entry, [&](const Walk::Data& d) {
        const std::uint64_t to = host + d.guest % cluster_bytes;
        if (d.assembled)
            copier.read(d.guest, to, d.bytes);
        else
            copier.data(d.layer, d.from, d.guest, to, d.bytes);
    });
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
    Copier::How how;
    how.readers = target.readers ? target.readers : readers_of(range, range.layers().size() - 1);
    how.read_all = static_cast<bool>(target.readers);
    how.grain = target.flat ? 4096 : cluster_bytes;
    how.sparse = target.flat;
    how.share = target.share;
    how.rate = target.rate;
    how.request = target.request;
    Copier copier(range, to, how, progress);
    Records records(walk, log, copier, to, target);
    const bool all = walk.all([&](const Cluster& c, const auto& entry) {
        if (left.last && c.number <= *left.last) {
            copier.skip(walk.data_bytes(c));
            return true;
        }
        if (target.stop && target.stop()) return false;
        const std::uint64_t host = c.stored ? std::exchange(left.next, left.next + cluster_bytes) : 0;
        copy_data(walk, c, entry, host, copier);
        records.add(c, host);
        return true;
    });
    records.write();
    if (all) to.resize(left.next);  // the last cluster may be stored in part
    to.sync();
    return all;
}

}  // namespace

bool is_sealed_as(const std::string& path, const qcow2::Layer& top) {
    const File file(path);
    if (!qcow2::has_magic(file) || qcow2::is_in_use(file)) return false;
    qcow2::ChainOptions o;
    o.depth = 1;
    o.allow = {std::filesystem::path(path).parent_path().string()};
    return point_id(qcow2::Chain(path, o).top()) == point_id(top);
}

bool merge(const qcow2::Chain& range, const MergeSize& size, const MergeTo& target,
           const std::function<void(std::uint64_t)>& progress) {
    Walk walk(range, target.flat);
    std::error_code none;
    std::optional<Left> left;
    if (target.goes_on && std::filesystem::exists(target.path, none)) {
        // Sealed: all was done but to say so.
        if (is_sealed_as(target.path, range.top())) {
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

double measure_rate(const qcow2::Chain& range, const std::string& folder) try {
    using Clock = std::chrono::steady_clock;
    std::optional<Writable> to = Writable::nameless(folder);
    if (!to) return 0;
    Walk walk(range, false);
    Copier::How how;
    how.readers = readers_of(range, range.layers().size() - 1);
    const std::function<void(std::uint64_t)> progress = [](std::uint64_t) {};
    Copier copier(range, *to, how, progress);
    const auto begin = Clock::now();
    std::uint64_t bytes = 0, clusters = 0;
    walk.all([&](const Cluster& c, const auto& entry) {
        if (!c.data) return true;
        copy_data(walk, c, entry, clusters++ * cluster_bytes, copier);
        bytes += walk.data_bytes(c);
        return bytes < sample_bytes && Clock::now() - begin < std::chrono::seconds(2);
    });
    copier.flush();
    to->sync();
    return static_cast<double>(bytes) / std::chrono::duration<double>(Clock::now() - begin).count();
} catch (const NoRoom&) {
    return 0;
}

void require_same(const qcow2::Chain& range, const std::string& path) {
    qcow2::ChainOptions o;
    o.depth = 1;
    o.allow = {std::filesystem::path(path).parent_path().string()};
    const qcow2::Chain merged(path, o);
    ::posix_fadvise(merged.top().file().fd(), 0, 0, POSIX_FADV_DONTNEED);
    const std::uint64_t bytes = range.virtual_size();
    const Readers old_readers = readers_of(range, range.layers().size() - 1);
    share_out((bytes + copy_bytes - 1) / copy_bytes, copy_threads, [&](Turns& turns, bool) {
        const ReadDisk old = old_readers();
        qcow2::Reader now(merged);
        std::vector<unsigned char> a(copy_bytes), b(copy_bytes);
        while (const auto i = turns.next()) {
            const std::uint64_t at = *i * copy_bytes, n = std::min(copy_bytes, bytes - at);
            old(a.data(), n, at);
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
