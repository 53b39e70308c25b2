// SPDX-License-Identifier: GPL-2.0-or-later
// See adder.hpp.
#include "qcow2/adder.hpp"

#include <algorithm>

#include "io/text.hpp"
#include "qcow2/header_bytes.hpp"
#include "qcow2/references.hpp"

namespace dmchain::qcow2 {

namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint32_t refcount_order = 4;      // 16 bits
constexpr std::size_t most_entries = 16u << 20;  // bytes of them that wait

// Bits of the subclusters that a piece has in its cluster.
std::uint32_t subclusters_of(std::uint64_t within, std::uint64_t bytes, std::uint64_t cluster) {
    const std::uint64_t each = cluster / subclusters;
    const std::uint64_t first = within / each, end = (within + bytes + each - 1) / each;
    const std::uint64_t up_to = (std::uint64_t{1} << end) - 1, below = (std::uint64_t{1} << first) - 1;
    return static_cast<std::uint32_t>(up_to & ~below);
}

}  // namespace

std::optional<std::string> cannot_add(const Image& image, std::uint64_t size, std::uint32_t unit) {
    const Header& h = image.header();
    if (h.version < 3) return "is of qcow2 version 2";
    if (h.in_use()) return "is not sealed";
    if (h.corrupt() || h.dirty()) return "is marked corrupt or dirty";
    if (h.has_data_file()) return "has an external data file";
    if (h.snapshots) return "has internal snapshots";
    if (h.bitmaps) return "has persistent bitmaps";
    if (h.refcount_order != refcount_order) return "has refcounts that are not of 16 bits";
    if (h.extended_l2() && unit % (h.cluster_size() / subclusters)) return "has larger subclusters than the layers above it";
    const std::uint64_t l1_bytes = (size + h.l2_span() - 1) / h.l2_span() * 8;
    if (l1_bytes > max_l1_bytes) return "would have too large an L1 table";
    const std::uint64_t counted = h.refcount_table_clusters * h.cluster_size() / 8 * (h.cluster_size() / 2) * h.cluster_size();
    const std::uint64_t most = image.file().size() + size + size / 256 + l1_bytes + (std::uint64_t{16} << h.cluster_bits);
    if (most > counted) return "has a refcount table that is too small for more clusters";
    return std::nullopt;
}

Adder::Adder(Writable& to, Source source)
    : to_(to), source_(std::move(source)), file_(to.path()), h_(read_header(file_)), l1_(h_.l1_entries) {
    file_.read(l1_.data(), l1_.size() * 8, h_.l1_offset);
    next_ = (to_.size() + cluster() - 1) & ~(cluster() - 1);
}

// ---- Header ----

// One sector, which is written or not.
void Adder::write_header() {
    unsigned char head[sector];
    file_.read(head, sizeof head, 0);
    if (h_.sealed_unit_bits) {
        auto bytes = header_bytes(h_, to_.path());
        // The backing file's name stays where it is, which is elsewhere after a move (backing.hpp).
        std::copy(head + 8, head + 20, bytes.begin() + 8);
        // The label has a sector of its own.
        to_.write(bytes.data(), sector, 0);
        if (h_.label_at) to_.write(&bytes[*h_.label_at], label_sector, *h_.label_at);
        return;
    }
    // Of others' only what there is to change.
    const std::uint64_t size = htobe64(h_.size), l1 = htobe64(h_.l1_offset);
    const std::uint32_t entries = htobe32(h_.l1_entries);
    std::memcpy(head + 24, &size, 8);
    std::memcpy(head + 36, &entries, 4);
    std::memcpy(head + 40, &l1, 8);
    to_.write(head, sizeof head, 0);
}

// The part of the last cluster behind the old end has not been seen so far: it reads zeroes from now on.
void Adder::grow(std::uint64_t size) {
    const std::uint64_t within = h_.size & (cluster() - 1), entries = (size + h_.l2_span() - 1) / h_.l2_span();
    if (within) {
        load(h_.size / h_.l2_span());
        const std::uint64_t e = be64toh(table_.words[h_.size / cluster() % h_.l2_entries() * (h_.l2_entry_bytes() / 8)]);
        if (!(e & flag_compressed) && e & offset_mask) to_.make_zero((e & offset_mask) + within, cluster() - within);
    }
    if (entries > h_.l1_entries) {
        const std::uint64_t clusters = (entries * 8 + cluster() - 1) >> h_.cluster_bits;
        l1_.resize(clusters << h_.cluster_bits >> 3);
        h_.l1_offset = allocate(clusters);
        h_.l1_entries = static_cast<std::uint32_t>(entries);
        to_.write(l1_.data(), l1_.size() * 8, h_.l1_offset);
        l1_.resize(entries);
        flush();
    }
    h_.size = size;
}

void Adder::prepare(std::uint64_t size, std::uint32_t unit) {
    const bool finer = h_.extended_l2() && h_.sealed_unit_bits && unit < 1u << *h_.sealed_unit_bits;
    if (size <= h_.size && !finer) return;
    if (finer)
        while (1u << *h_.sealed_unit_bits > unit) --*h_.sealed_unit_bits;
    if (size > h_.size) grow(size);
    to_.sync();
    write_header();
    to_.sync();
}

// ---- New clusters ----

Adder::Block& Adder::block_of(std::uint64_t cluster_number) {
    const std::uint64_t each = cluster() / 2, number = cluster_number / each;
    const auto found = blocks_.find(number);
    if (found != blocks_.end()) return found->second;
    if (number >= h_.refcount_table_clusters * cluster() / 8)
        throw failed("{}: its refcount table has no room for more clusters", escaped(to_.path()));
    std::uint64_t entry = 0;
    file_.read(&entry, 8, h_.refcount_table_offset + number * 8);
    Block b{be64toh(entry) & ~(cluster() - 1), std::vector<std::uint16_t>(each)};
    b.fresh = !b.at;
    if (b.fresh) {
        b.at = next_;
        next_ += cluster();
    } else {
        file_.read_padded(b.count.data(), cluster(), b.at);
    }
    const std::uint64_t own = b.at;
    const bool fresh = b.fresh;
    Block& in = blocks_.emplace(number, std::move(b)).first->second;
    if (fresh) count_one(own);
    return in;
}

void Adder::count_one(std::uint64_t offset) {
    Block& b = block_of(offset >> h_.cluster_bits);
    b.count[(offset >> h_.cluster_bits) % b.count.size()] = htobe16(1);
    b.changed = true;
}

std::uint64_t Adder::allocate(std::uint64_t clusters) {
    const std::uint64_t at = next_;
    next_ += clusters << h_.cluster_bits;
    for (std::uint64_t i = 0; i < clusters; i++) count_one(at + (i << h_.cluster_bits));
    return at;
}

// ---- L2 tables ----

void Adder::load(std::uint64_t number) {
    if (table_.number == number) return;
    put_away();
    table_.number = number;
    table_.words.assign(cluster() / 8, 0);
    table_.changed.assign(cluster() / sector, false);
    table_.at = be64toh(l1_[number]) & offset_mask;
    table_.fresh = !table_.at;
    if (!table_.fresh) file_.read_padded(table_.words.data(), cluster(), table_.at);
}

void Adder::changed(const std::uint64_t* word) {
    if (table_.fresh && !table_.at) table_.at = allocate();
    table_.changed[static_cast<std::size_t>(word - table_.words.data()) * 8 / sector] = true;
}

// What was changed in the table waits for its turn. Nobody knows one that is new: it is written at once.
void Adder::put_away() {
    if (table_.number == ~std::uint64_t{0}) return;
    const auto* bytes = reinterpret_cast<const unsigned char*>(table_.words.data());
    if (table_.fresh && table_.at) {
        to_.write(bytes, cluster(), table_.at);
        l1_[table_.number] = htobe64(table_.at | flag_copied);
        l1_changed_.push_back(table_.number);
    } else {
        for (std::uint64_t i = 0; i < table_.changed.size(); i++)
            if (table_.changed[i])
                entries_.emplace_back(table_.at + i * sector,
                                      std::vector<unsigned char>(bytes + i * sector, bytes + (i + 1) * sector));
    }
    table_.number = ~std::uint64_t{0};
}

void Adder::flush() {
    settle();
    put_away();
    source_.flush();
    // Clusters are whole, also where nothing was written to the end of one.
    if (next_ > to_.size()) to_.resize(next_);
    bool fresh = false, counted = false;
    for (auto& [number, b] : blocks_) {
        if (std::exchange(b.changed, false)) {
            to_.write(b.count.data(), cluster(), b.at);
            counted = true;
        }
        fresh |= b.fresh;
    }
    to_.sync();
    if (fresh) {
        for (auto& [number, b] : blocks_) {
            const std::uint64_t entry = htobe64(b.at);
            if (std::exchange(b.fresh, false)) to_.write(&entry, 8, h_.refcount_table_offset + number * 8);
        }
        to_.sync();
    }
    if (!counted && entries_.empty() && l1_changed_.empty()) return;
    for (const auto& [at, bytes] : entries_) to_.write(bytes.data(), bytes.size(), at);
    entries_.clear();
    for (const std::uint64_t i : l1_changed_) to_.write(&l1_[i], 8, h_.l1_offset + i * 8);
    l1_changed_.clear();
    to_.sync();
}

// ---- Clusters ----

void Adder::add(const Piece& piece) {
    for (Piece p = piece; p.bytes;) {
        const std::uint64_t n = std::min(p.bytes, cluster() - p.guest % cluster());
        if (!pieces_.empty() && pieces_.back().guest / cluster() != p.guest / cluster()) settle();
        pieces_.push_back(p);
        pieces_.back().bytes = n;
        p.guest += n;
        p.from += n;
        p.bytes -= n;
    }
}

bool Adder::covers_all() const {
    const std::uint64_t begin = pieces_.front().guest & ~(cluster() - 1);
    std::uint64_t sum = 0;
    for (const Piece& p : pieces_) sum += p.bytes;
    return sum == std::min(cluster(), h_.size - begin);
}

// Writes all of the cluster at @host, which is new: what no piece has is what the disk shows there.
void Adder::fill(std::uint64_t host) {
    const std::uint64_t begin = pieces_.front().guest & ~(cluster() - 1), end = std::min(begin + cluster(), h_.size);
    std::uint64_t at = begin;
    const auto gap = [&](std::uint64_t to) {
        if (to > at) source_.copy({at, to - at}, host + (at - begin));
    };
    for (const Piece& p : pieces_) {
        gap(p.guest);
        if (!p.zero) source_.copy(p, host + (p.guest - begin));
        at = p.guest + p.bytes;
    }
    gap(end);
}

void Adder::settle() {
    if (pieces_.empty()) return;
    const std::uint64_t number = pieces_.front().guest >> h_.cluster_bits;
    if (pieces_.front().guest + pieces_.front().bytes > h_.size)
        throw failed("{}: byte {} lies behind the end of its disk", escaped(to_.path()), pieces_.front().guest);
    load(number / h_.l2_entries());
    std::uint64_t* entry = &table_.words[number % h_.l2_entries() * (h_.l2_entry_bytes() / 8)];
    h_.extended_l2() ? settle_extended(entry) : settle_plain(entry);
    pieces_.clear();
    if (entries_.size() * sector > most_entries) flush();
}

void Adder::settle_plain(std::uint64_t* entry) {
    const std::uint64_t e = be64toh(*entry), host = e & offset_mask;
    if (e & flag_copied && !(e & (flag_compressed | flag_zero))) {
        for (const Piece& p : pieces_) {
            const std::uint64_t to = host + (p.guest & (cluster() - 1));
            p.zero ? to_.make_zero(to, p.bytes) : source_.copy(p, to);
        }
        return;
    }
    const bool zero = std::all_of(pieces_.begin(), pieces_.end(), [](const Piece& p) { return p.zero; });
    std::uint64_t now = flag_zero;
    if (!zero || !covers_all()) {
        now = allocate();
        fill(now);
        now |= flag_copied;
    }
    *entry = htobe64(now);
    changed(entry);
}

void Adder::settle_extended(std::uint64_t* entry) {
    const std::uint64_t e = be64toh(entry[0]);
    std::uint64_t host = e & offset_mask, bitmap = be64toh(entry[1]);
    auto has = static_cast<std::uint32_t>(bitmap), zero = static_cast<std::uint32_t>(bitmap >> 32);
    const bool own = e & flag_copied && !(e & flag_compressed);
    const bool data = std::any_of(pieces_.begin(), pieces_.end(), [](const Piece& p) { return !p.zero; });
    bool filled = false;
    if (!own && (e & flag_compressed || host || data)) {
        // One that is compressed, or counted more than once, cannot be changed.
        filled = e & flag_compressed || host;
        host = allocate();
        if (filled) {
            fill(host);
            has = ~std::uint32_t{0};
            zero = 0;
        }
    }
    for (const Piece& p : pieces_) {
        const std::uint64_t within = p.guest & (cluster() - 1);
        // What lies at the end of the disk has all of its unit.
        const std::uint64_t rest = p.guest + p.bytes == h_.size ? -(within + p.bytes) & (unit() - 1) : 0;
        const std::uint32_t bits = subclusters_of(within, p.bytes + rest, cluster());
        if (!p.zero && !filled) {
            source_.copy(p, host + within);
            if (rest) to_.make_zero(host + within + p.bytes, rest);
        }
        has = p.zero ? has & ~bits : has | bits;
        zero = p.zero ? zero | bits : zero & ~bits;
    }
    const std::uint64_t first = host ? htobe64(host | flag_copied) : 0, second = htobe64(std::uint64_t{zero} << 32 | has);
    if (entry[0] == first && entry[1] == second) return;
    entry[0] = first;
    entry[1] = second;
    changed(entry);
}

// ---- The end ----

void Adder::recount() {
    flush();
    blocks_.clear();
    Faults faults(Faults::Mode::stop);
    const Image image(File(to_.path()), read_header(File(to_.path())), std::nullopt, std::nullopt, faults);
    const References references(image, faults);
    const std::uint64_t each = cluster() / 2, clusters = (to_.size() + cluster() - 1) >> h_.cluster_bits;
    std::uint64_t used = 0;
    for (std::uint64_t n = 0; n * each < clusters; n++) {
        std::uint64_t entry = 0;
        file_.read(&entry, 8, h_.refcount_table_offset + n * 8);
        entry = be64toh(entry) & ~(cluster() - 1);
        if (!entry) continue;
        std::vector<std::uint16_t> count(each);
        file_.read_padded(count.data(), cluster(), entry);
        bool lower = false;
        for (std::uint64_t i = 0; i < each; i++) {
            const std::uint64_t at = n * each + i;
            const std::uint32_t real = references.count(at), is = be16toh(count[i]);
            if (real) used = at + 1;
            if (is < real)
                throw damaged("{}: refcount of the cluster at {:#x} is {}, expected {}; repair it with \"qemu-img check -r all\"",
                              escaped(to_.path()), at << h_.cluster_bits, is, real);
            if (is == real) continue;
            count[i] = htobe16(static_cast<std::uint16_t>(real));
            lower = true;
        }
        if (lower) to_.write(count.data(), cluster(), entry);
    }
    if (used << h_.cluster_bits < to_.size()) to_.resize(used << h_.cluster_bits);
    to_.sync();
    next_ = (to_.size() + cluster() - 1) & ~(cluster() - 1);
}

void Adder::finish(const std::optional<Label>& label, const LayerId& id) {
    recount();
    if (!h_.sealed_unit_bits) return;
    if (h_.label_at) h_.label = label;
    if (h_.has_id_room) h_.sealed_id = id;
    write_header();
    to_.sync();
}

}  // namespace dmchain::qcow2
