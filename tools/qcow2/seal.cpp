// SPDX-License-Identifier: GPL-2.0-or-later
// See seal.hpp. The order is what makes it safe: tables go where neither data nor log is; when they are durable,
// one write of the header turns the layer into an image; only then the log's room is given back.
#include "qcow2/seal.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header_bytes.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/room.hpp"

namespace dmchain::qcow2 {
namespace {

constexpr std::uint32_t refcount_order = 4;  // 16 bits
constexpr std::uint64_t all_subclusters = 0xffffffff;

// What of a cluster the layer owns, as far as it lies in the disk.
enum class Owned { data, zero, partly };

Owned owned(const Log& log, const Log::Cluster& c) {
    const std::uint32_t all = log.units_of(c.cluster);
    if ((static_cast<std::uint32_t>(c.bitmap) & all) == all) return Owned::data;
    if ((static_cast<std::uint32_t>(c.bitmap >> 32) & all) == all) return Owned::zero;
    return Owned::partly;
}

// Gives back what is not in use: the log, what was freed, and what was allocated ahead of need.
void trim(Writable& to, const Room& room, std::uint32_t bits) {
    const std::uint64_t end = room.clusters() << bits;
    if (!to.is_device() && end < to.size()) to.resize(end);
    const std::uint64_t clusters = to.size() >> bits;
    for (std::uint64_t c = 0; c < clusters;) {
        std::uint64_t n = 0;
        while (c + n < clusters && !room.used(c + n)) n++;
        if (n) to.punch(c << bits, n << bits);
        c += n + 1;
    }
    to.sync();
}

class Sealer {
public:
    Sealer(const std::string& path, const SealOptions& options)
        : path_(path), options_(options), file_(path), name_(escaped(path)), h_(read_header(file_, true)) {}

    SealResult run() {
        if (options_.dry_run) require_image_lock(file_.fd(), path_, ImageUse::write);
        if (!h_.in_use()) return finish();
        log_.emplace(file_, h_.cluster_bits);
        fill_ = options_.fill || h_.cluster_bits < 14;
        for (const Log::Cluster& c : log_->clusters()) result_.partial += owned(*log_, c) == Owned::partly;
        result_.clusters = log_->clusters().size();
        result_.extended_l2 = result_.partial && !fill_;
        h_.size = log_->size();
        h_.incompatible = result_.extended_l2 ? incompatible_extended_l2 : 0;
        h_.sealed_unit_bits = log_->unit_bits();
        h_.sealed_id = log_->id();
        h_.refcount_order = refcount_order;
        h_.l1_entries = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (h_.size + h_.l2_span() - 1) / h_.l2_span()));
        if (h_.l1_entries * std::uint64_t{8} > max_l1_bytes)
            throw failed("{}: a disk of {} takes an L1 table of {}, expected at most {}{}", name_, human_size(h_.size),
                         human_size(h_.l1_entries * std::uint64_t{8}), human_size(max_l1_bytes),
                         result_.extended_l2 ? ": seal it with --no-subclusters" : "");
        count_tables();
        if (options_.dry_run) {
            result_.bytes = file_.size();
            return result_;
        }
        to_.emplace(Writable::open(path_));
        const Header now = read_header(File(path_), true);
        if (!now.in_use()) throw failed("{}: was sealed by another process just now", name_);
        h_.label = now.label;  // may have been written since
        write();
        return result_;
    }

private:
    // The header is an image's already. If it is one that was sealed, and not written to since, there may be room to
    // give back.
    SealResult finish() {
        if (!h_.sealed_unit_bits)
            throw failed(
                "{}: is no layer of dm-chain, or was written to by another program since it was sealed: nothing to "
                "seal",
                name_);
        result_.was_sealed = true;
        result_.extended_l2 = h_.extended_l2();
        result_.bytes = file_.size();
        if (options_.dry_run) return result_;
        to_.emplace(Writable::open(path_));
        trim(*to_, room_of_refcounts(), h_.cluster_bits);
        result_.bytes = to_->size();
        return result_;
    }

    std::uint64_t most() const {
        return to_->is_device() ? to_->size() >> h_.cluster_bits : ~std::uint64_t{0} >> h_.cluster_bits;
    }

    // As write_refcounts() left them.
    Room room_of_refcounts() const {
        Room room(h_.cluster_bits, most(), path_);
        const std::uint64_t cluster = h_.cluster_size();
        std::vector<std::uint64_t> table(h_.refcount_table_clusters * cluster / 8);
        std::vector<std::uint16_t> block(cluster / 2);
        if (h_.refcount_order != refcount_order)
            throw damaged("{}: refcount_order at offset 96 is {}, expected {} in a sealed layer", name_, h_.refcount_order,
                          refcount_order);
        file_.read(table.data(), table.size() * 8, h_.refcount_table_offset);
        for (std::size_t i = 0; i < table.size(); i++) {
            if (!table[i]) continue;
            file_.read(block.data(), cluster, be64toh(table[i]));
            for (std::size_t k = 0; k < block.size(); k++)
                if (block[k]) room.use((i * block.size() + k) << h_.cluster_bits, 1);
        }
        return room;
    }

    void count_tables() {
        const std::uint64_t each = h_.l2_entries();
        std::uint64_t last = ~std::uint64_t{0};
        for (const Log::Cluster& c : log_->clusters())
            if (std::exchange(last, c.cluster / each) != c.cluster / each) result_.tables++;
    }

    void write() {
        room_.emplace(h_.cluster_bits, most(), path_);
        room_->use(0, 1);
        for (const Log::Segment& s : log_->segments()) room_->use(s.offset, s.bytes);
        for (const Log::Cluster& c : log_->clusters())
            if (c.host) room_->use(c.host, 1);
        room_->begin_at(log_->end());
        if (fill_ && result_.partial) {
            ChainOptions how = options_.chain;
            how.in_use = true;
            how.locked = path_;
            chain_.emplace(path_, how);
            reader_.emplace(*chain_);
        }
        write_l2();
        write_l1();
        write_refcounts();
        to_->sync();
        const auto header = header_bytes(h_, path_);
        to_->write(header.data(), header.size(), 0);
        to_->sync();
        trim(*to_, *room_, h_.cluster_bits);
        result_.bytes = to_->size();
    }

    void write_l2() {
        const std::uint64_t each = h_.l2_entries(), words = h_.l2_entry_bytes() / 8;
        std::vector<std::uint64_t> table(h_.cluster_size() / 8);
        l1_.assign(h_.l1_entries, 0);
        const auto& all = log_->clusters();
        for (std::size_t i = 0; i < all.size();) {
            const std::uint64_t number = all[i].cluster / each;
            std::fill(table.begin(), table.end(), 0);
            for (; i < all.size() && all[i].cluster / each == number; i++) {
                std::uint64_t* entry = &table[all[i].cluster % each * words];
                write_entry(all[i], entry);
            }
            const std::uint64_t at = room_->get();
            to_->write(table.data(), h_.cluster_size(), at);
            l1_[number] = htobe64(at | flag_copied);
            done_++;
            if (options_.progress) options_.progress(done_, result_.tables);
        }
    }

    void write_entry(const Log::Cluster& c, std::uint64_t* entry) {
        const Owned what = owned(*log_, c);
        if (what == Owned::zero) {
            if (c.host) room_->release(c.host, 1);  // stored is only what lies past the end of the disk
            entry[result_.extended_l2] = htobe64(result_.extended_l2 ? all_subclusters << 32 : flag_zero);
            return;
        }
        const std::uint64_t host = what == Owned::partly && fill_ ? fill(c) : c.host;
        if (host) clear_past_end(c.cluster, host);
        entry[0] = htobe64(host ? host | flag_copied : 0);
        if (!result_.extended_l2) return;
        std::uint64_t bitmap = all_subclusters;
        if (what == Owned::partly)
            bitmap = std::uint64_t{subclusters_of(static_cast<std::uint32_t>(c.bitmap >> 32), log_->units())} << 32 |
                     subclusters_of(static_cast<std::uint32_t>(c.bitmap), log_->units());
        entry[1] = htobe64(bitmap);
    }

    // Makes a partly owned cluster a whole one; returns where it is. What is written over belongs to nobody as yet.
    std::uint64_t fill(const Log::Cluster& c) {
        const std::uint64_t cluster = h_.cluster_size(), unit = std::uint64_t{1} << log_->unit_bits();
        std::vector<unsigned char> bytes(cluster);
        reader_->read(bytes.data(), cluster, c.cluster << h_.cluster_bits);
        if (!c.host) {
            const std::uint64_t host = room_->get();
            to_->write(bytes.data(), cluster, host);
            return host;
        }
        for (std::uint32_t i = 0; i < log_->units();) {
            std::uint32_t n = 0;
            while (i + n < log_->units() && !(c.bitmap >> (i + n) & 1)) n++;
            if (n) to_->write(&bytes[i * unit], n * unit, c.host + i * unit);
            i += n + 1;
        }
        return c.host;
    }

    // Whoever makes the disk larger later must find zeroes there.
    void clear_past_end(std::uint64_t cluster, std::uint64_t host) {
        const std::uint64_t begin = cluster << h_.cluster_bits;
        if (h_.size - begin < h_.cluster_size())
            to_->write_zeroes(h_.cluster_size() - (h_.size - begin), host + (h_.size - begin));
    }

    void write_l1() {
        const std::uint64_t clusters = (l1_.size() * 8 + h_.cluster_size() - 1) >> h_.cluster_bits;
        h_.l1_offset = room_->get(clusters);
        l1_.resize(clusters << h_.cluster_bits >> 3);
        to_->write(l1_.data(), l1_.size() * 8, h_.l1_offset);
    }

    // Blocks for all up to the last cluster in use, which they may be themselves.
    void write_refcounts() {
        const std::uint64_t cluster = h_.cluster_size(), each = cluster / 2;
        std::vector<std::uint64_t> blocks;
        std::uint64_t table = 0, table_clusters = 0;
        for (;;) {
            const std::uint64_t need = (room_->clusters() + each - 1) / each;
            if (blocks.size() < need) {
                blocks.push_back(room_->get());
            } else if (table_clusters < (need * 8 + cluster - 1) >> h_.cluster_bits) {
                if (table_clusters) room_->release(table, table_clusters);
                table_clusters = (need * 8 + cluster - 1) >> h_.cluster_bits;
                table = room_->get(table_clusters);
            } else {
                break;
            }
        }
        if (table_clusters * cluster > max_refcount_table_bytes)
            throw failed("{}: a layer of {} takes a refcount table of {}, expected at most {}", name_,
                         human_size(room_->clusters() << h_.cluster_bits), human_size(table_clusters * cluster),
                         human_size(max_refcount_table_bytes));
        // Only now, when nothing more is allocated: the log is needed until the header is written.
        for (const Log::Segment& s : log_->segments()) room_->release(s.offset, s.bytes >> h_.cluster_bits);
        std::vector<std::uint16_t> block(each);
        for (std::size_t i = 0; i < blocks.size(); i++) {
            for (std::uint64_t k = 0; k < each; k++) block[k] = htobe16(room_->used(i * each + k));
            to_->write(block.data(), cluster, blocks[i]);
        }
        for (std::uint64_t& b : blocks) b = htobe64(b);
        blocks.resize(table_clusters * cluster / 8);
        to_->write(blocks.data(), blocks.size() * 8, table);
        h_.refcount_table_offset = table;
        h_.refcount_table_clusters = static_cast<std::uint32_t>(table_clusters);
    }

    const std::string path_;
    const SealOptions& options_;
    File file_;
    const std::string name_;
    Header h_;
    std::optional<Log> log_;
    bool fill_ = false;
    SealResult result_;
    std::optional<Writable> to_;
    std::optional<Room> room_;
    std::optional<Chain> chain_;
    std::optional<Reader> reader_;
    std::vector<std::uint64_t> l1_;
    std::uint64_t done_ = 0;
};

}  // namespace

SealResult seal(const std::string& path, const SealOptions& options) { return Sealer(path, options).run(); }

}  // namespace dmchain::qcow2
