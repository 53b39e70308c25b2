// SPDX-License-Identifier: GPL-2.0-or-later
#include "image.hpp"

#include <zlib.h>
#include <zstd.h>

#include <map>

namespace gen {

namespace {

constexpr u64 copied = u64{1} << 63;
constexpr u64 is_compressed = u64{1} << 62;
constexpr u64 reads_zero = 1;
constexpr u64 offset_mask = 0x00fffffffffffe00;

// Big-endian, as everything in qcow2.
template <typename T>
void put(std::vector<u8>& to, T value) {
    for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
        to.push_back(static_cast<u8>(value >> shift));
    }
}

void put_text(std::vector<u8>& to, const std::string& text) { to.insert(to.end(), text.begin(), text.end()); }

void pad(std::vector<u8>& to, std::size_t multiple) { to.resize((to.size() + multiple - 1) / multiple * multiple); }

std::vector<u8> extension(u32 type, const std::vector<u8>& content) {
    std::vector<u8> e;
    put<u32>(e, type);
    put<u32>(e, static_cast<u32>(content.size()));
    e.insert(e.end(), content.begin(), content.end());
    pad(e, 8);
    return e;
}

void put_feature(std::vector<u8>& to, u8 kind, u8 bit, const std::string& name) {
    to.push_back(kind);
    to.push_back(bit);
    std::string padded = name;
    padded.resize(46);
    put_text(to, padded);
}

}  // namespace

Image::Image(const std::string& path, const std::string& data_path, ImageOptions o, Prng random)
    : o_(std::move(o)), random_(random), file_(path) {
    if (o_.data_file != DataFile::none) data_file_ = std::make_unique<File>(data_path);
    refs_.assign(1, 1);
}

u64 Image::max_refs() const {
    // Half of what fits, so that a snapshot can share everything once.
    const u64 bits = u64{1} << o_.refcount_order;
    const u64 most = bits >= 32 ? 0xffffffff : (u64{1} << bits) - 1;
    return std::max<u64>(1, most / 2);
}

u64 Image::allocate(u64 count) {
    u64 cluster;
    if (count == 1 && o_.placement == Placement::shuffled) {
        if (pool_.empty()) {
            const u64 n = random_.between(2, 64);
            for (u64 i = 0; i < n; i++) pool_.push_back(next_++);
            random_.shuffle(pool_);
            // Some are never used: holes in the file.
            if (n > 8) pool_.resize(n - random_.below(4));
        }
        cluster = pool_.back();
        pool_.pop_back();
    } else {
        if (o_.placement == Placement::gaps && random_.chance(10)) next_ += random_.between(1, 5);
        cluster = next_;
        next_ += count;
    }
    refs_.resize(std::max<u64>(refs_.size(), next_));
    for (u64 i = 0; i < count; i++) refs_[cluster + i] = 1;
    return cluster << o_.cluster_bits;
}

// Room for the data of guest cluster `n`. In an external data file, raw or not, QEMU insists on the
// guest's own offset.
u64 Image::allocate_data(u64 n) { return data_file_ ? n << o_.cluster_bits : allocate(1); }

Tables::Entry& Image::entry(u64 n) {
    const u64 per_table = cluster_bytes() / (o_.extended_l2 ? 16 : 8);
    const u64 index = n / per_table;
    if (active_.l2.size() <= index) active_.l2.resize(index + 1);
    auto& table = active_.l2[index];
    if (!table) {
        table = std::make_shared<Tables::L2>();
        table->host = allocate(1);
        table->entries.resize(per_table);
    }
    return table->entries[n % per_table];
}

void Image::data(u64 n, std::span<const u8> data) {
    Tables::Entry& e = entry(n);
    e.word = allocate_data(n);
    // The COPIED flag is what tells offset 0 of a data file from "not allocated".
    if (data_file_) e.word |= copied;
    if (o_.extended_l2) e.bitmap = 0xffffffff;
    (data_file_ ? *data_file_ : file_).write_sparse(e.word & offset_mask, data);
}

void Image::zero(u64 n) {
    Tables::Entry& e = entry(n);
    if (o_.extended_l2)
        e.bitmap = u64{0xffffffff} << 32;
    else
        e.word = reads_zero;
}

void Image::zero_allocated(u64 n, std::span<const u8> garbage) {
    data(n, garbage);
    Tables::Entry& e = entry(n);
    if (o_.extended_l2)
        e.bitmap = u64{0xffffffff} << 32;
    else
        e.word |= reads_zero;
}

void Image::subclusters(u64 n, u32 allocated, u32 zeroes, std::span<const u8> content) {
    if (allocated != 0 || random_.chance(20)) data(n, content);
    entry(n).bitmap = (u64{zeroes} << 32) | allocated;
}

std::vector<u8> Image::compress(std::span<const u8> data) {
    std::vector<u8> out(compressBound(data.size()) + 1024);
    if (o_.compression == Compression::zlib) {
        z_stream z{};
        const int strategies[] = {Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED};
        if (deflateInit2(&z, static_cast<int>(random_.between(1, 9)), Z_DEFLATED, -12, static_cast<int>(random_.between(1, 9)),
                         strategies[random_.below(5)]) != Z_OK)
            throw std::runtime_error("deflateInit2 failed");
        z.next_in = const_cast<u8*>(data.data());
        z.avail_in = static_cast<uInt>(data.size());
        z.next_out = out.data();
        z.avail_out = static_cast<uInt>(out.size());
        const int status = deflate(&z, Z_FINISH);
        out.resize(z.total_out);
        deflateEnd(&z);
        if (status != Z_STREAM_END) throw std::runtime_error("deflate failed");
        return out;
    }
    ZSTD_CCtx* c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, static_cast<int>(random_.between(1, 12)));
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, random_.chance(30));
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, random_.chance(70));
    // Now and then one cluster is several frames.
    const std::size_t first = random_.chance(5) ? random_.between(1, data.size() - 1) : data.size();
    std::size_t used = 0;
    for (auto part : {data.first(first), data.subspan(first)}) {
        if (part.empty()) continue;
        const std::size_t n = ZSTD_compress2(c, out.data() + used, out.size() - used, part.data(), part.size());
        if (ZSTD_isError(n)) throw std::runtime_error(ZSTD_getErrorName(n));
        used += n;
    }
    ZSTD_freeCCtx(c);
    out.resize(used);
    return out;
}

std::pair<u64, u64> Image::stream_clusters(u64 word) const {
    const unsigned shift = 62 - (o_.cluster_bits - 8);
    const u64 at = word & ((u64{1} << shift) - 1);
    const u64 more_sectors = (word & (is_compressed - 1)) >> shift;
    const u64 last = at / 512 * 512 + (more_sectors + 1) * 512 - 1;
    return {at >> o_.cluster_bits, last >> o_.cluster_bits};
}

bool Image::compressed(u64 n, std::span<const u8> data) {
    const std::vector<u8> stream = compress(data);
    if (stream.size() >= data.size()) return false;
    const u64 bytes = cluster_bytes();
    // Streams follow one another at any byte, also across host clusters, sharing sectors and clusters
    // as far as the refcounts' width permits.
    const auto room = [&] {
        if (stream_at_ + stream.size() > stream_end_) return false;
        for (u64 c = stream_at_ / bytes; c <= (stream_at_ + stream.size() - 1) / bytes; c++) {
            if (refs_[c] >= max_refs() && stream_at_ > c * bytes) return false;
        }
        return true;
    };
    if (room() && random_.chance(30)) stream_at_ += random_.below(700);
    if (!room()) {
        const u64 count = random_.between(1, 4);
        stream_at_ = allocate(count);
        stream_end_ = stream_at_ + count * bytes;
        for (u64 c = stream_at_ / bytes; c < stream_end_ / bytes; c++) refs_[c] = 0;
        if (stream.size() + 600 < bytes && random_.chance(50)) stream_at_ += random_.below(600);
    }
    file_.write(stream_at_, stream);
    u64 more_sectors = (stream_at_ + stream.size() - 1) / 512 - stream_at_ / 512;
    // The count of sectors is an upper bound; sometimes it says more than there is.
    if (random_.chance(20) && (stream_at_ / 512 + more_sectors + 1) * 512 % bytes != 0) more_sectors++;
    const unsigned shift = 62 - (o_.cluster_bits - 8);
    Tables::Entry& e = entry(n);
    e.word = is_compressed | (more_sectors << shift) | stream_at_;
    const auto [first, last] = stream_clusters(e.word);
    for (u64 c = first; c <= last; c++) refs_[c]++;
    stream_at_ += stream.size();
    return true;
}

void Image::share(const Tables& tables) {
    for (const auto& table : tables.l2) {
        if (!table) continue;
        refs_[table->host >> o_.cluster_bits]++;
        for (const auto& e : table->entries) {
            if (e.word & is_compressed) {
                const auto [first, last] = stream_clusters(e.word);
                for (u64 c = first; c <= last; c++) refs_[c]++;
            } else if (e.word & offset_mask) {
                refs_[(e.word & offset_mask) >> o_.cluster_bits]++;
            }
        }
    }
}

void Image::snapshot_and_start_again(const std::string& name) {
    snapshots_.push_back({name, std::move(active_)});
    active_ = {};
}

void Image::snapshot(const std::string& name) {
    share(active_);
    snapshots_.push_back({name, active_});
}

void Image::bitmap(const std::string& name, unsigned granularity_bits) {
    const u64 bits = (o_.size + (u64{1} << granularity_bits) - 1) >> granularity_bits;
    const u64 bytes = (bits + 7) / 8;
    const u64 entries = (bytes + cluster_bytes() - 1) / cluster_bytes();
    if (entries == 0) return;
    std::vector<u8> table;
    for (u64 i = 0; i < entries; i++) {
        const u64 kind = random_.below(3);
        if (kind < 2) {
            put<u64>(table, kind);  // all zeroes, all ones
            continue;
        }
        const u64 host = allocate(1);
        std::vector<u8> content(cluster_bytes());
        const u64 here = std::min(bytes - i * cluster_bytes(), cluster_bytes());
        fill_random(std::span(content).first(here), random_.next());
        if (i + 1 == entries && bits % 8) content[here - 1] &= static_cast<u8>((1 << (bits % 8)) - 1);
        file_.write_sparse(host, content);
        put<u64>(table, host);
    }
    const u64 host = allocate((table.size() + cluster_bytes() - 1) / cluster_bytes());
    file_.write(host, table);
    bitmaps_.push_back({name, granularity_bits, host, static_cast<u32>(entries)});
}

void Image::write_tables(const Tables& tables, u64 l1_host) {
    std::vector<u8> l1;
    for (const auto& table : tables.l2) {
        if (!table) {
            put<u64>(l1, 0);
            continue;
        }
        put<u64>(l1, table->host | (refs_[table->host >> o_.cluster_bits] == 1 ? copied : 0));
        std::vector<u8> l2;
        l2.reserve(cluster_bytes());
        for (const auto& e : table->entries) {
            u64 word = e.word;
            if (!data_file_ && !(word & is_compressed) && (word & offset_mask) &&
                refs_[(word & offset_mask) >> o_.cluster_bits] == 1)
                word |= copied;
            put<u64>(l2, word);
            if (o_.extended_l2) put<u64>(l2, e.bitmap);
        }
        file_.write_sparse(table->host, l2);
    }
    file_.write_sparse(l1_host, l1);
}

u64 Image::write_snapshots() {
    if (snapshots_.empty()) return 0;
    std::vector<u8> table;
    u32 id = 1;
    for (auto& s : snapshots_) {
        put<u64>(table, s.l1_host);
        put<u32>(table, static_cast<u32>(s.tables.l2.size()));
        const std::string number = std::to_string(id++);
        put<u16>(table, static_cast<u16>(number.size()));
        put<u16>(table, static_cast<u16>(s.name.size()));
        put<u32>(table, 1700000000 + id);
        put<u32>(table, 0);
        put<u64>(table, 0);
        put<u32>(table, 0);
        const bool longer = random_.chance(50);
        put<u32>(table, longer ? 24 : 16);
        put<u64>(table, 0);
        put<u64>(table, o_.size);
        if (longer) put<u64>(table, ~u64{0});  // instruction count: not recorded
        put_text(table, number);
        put_text(table, s.name);
        pad(table, 8);
    }
    const u64 host = allocate((table.size() + cluster_bytes() - 1) / cluster_bytes());
    file_.write(host, table);
    return host;
}

std::pair<u64, u64> Image::write_bitmaps() {
    if (bitmaps_.empty()) return {0, 0};
    std::vector<u8> directory;
    for (const auto& b : bitmaps_) {
        put<u64>(directory, b.table_host);
        put<u32>(directory, b.table_entries);
        put<u32>(directory, random_.chance(50) ? 2 : 0);  // "auto": records writes
        directory.push_back(1);
        directory.push_back(static_cast<u8>(b.granularity_bits));
        put<u16>(directory, static_cast<u16>(b.name.size()));
        put<u32>(directory, 0);
        put_text(directory, b.name);
        pad(directory, 8);
    }
    const u64 host = allocate((directory.size() + cluster_bytes() - 1) / cluster_bytes());
    file_.write(host, directory);
    return {host, directory.size()};
}

// Refcount blocks and table count themselves, so they are added until nothing is missing.
void Image::write_refcounts() {
    const unsigned bits = 1u << o_.refcount_order;
    const u64 per_block = cluster_bytes() * 8 / bits;
    std::map<u64, u64> blocks;  // index -> byte offset
    for (;;) {
        bool complete = true;
        for (u64 c = 0; c < refs_.size(); c++) {
            if (refs_[c] == 0 || blocks.count(c / per_block)) continue;
            const u64 index = c / per_block;
            blocks[index] = allocate(1);
            complete = false;
        }
        if (!complete) continue;
        const u64 need = (blocks.rbegin()->first * 8 + 8 + cluster_bytes() - 1) / cluster_bytes();
        if (need <= refcount_table_clusters_) break;
        for (u64 i = 0; i < refcount_table_clusters_; i++) refs_[(refcount_table_ >> o_.cluster_bits) + i] = 0;
        refcount_table_clusters_ = need + random_.below(2);
        refcount_table_ = allocate(refcount_table_clusters_);
    }
    std::vector<u8> table;
    for (const auto& [index, host] : blocks) {
        table.resize(index * 8);
        put<u64>(table, host);
        std::vector<u8> block(cluster_bytes());
        for (u64 i = 0; i < per_block && index * per_block + i < refs_.size(); i++) {
            const u64 value = refs_[index * per_block + i];
            if (bits < 8) {
                block[i * bits / 8] |= static_cast<u8>(value << (i * bits % 8));
            } else {
                for (unsigned b = 0; b < bits / 8; b++)
                    block[i * (bits / 8) + b] = static_cast<u8>(bits / 8 - 1 - b < 8 ? value >> ((bits / 8 - 1 - b) * 8) : 0);
            }
        }
        file_.write_sparse(host, block);
    }
    file_.write_sparse(refcount_table_, table);
}

// The header with its extensions and the backing name; the fields that say where tables are stay zero.
std::vector<u8> Image::header(const ImageOptions& o, u64 bitmaps, u64 directory, u64 directory_bytes) {
    std::vector<u8> h;
    put<u32>(h, 0x514649fb);
    put<u32>(h, o.version);
    put<u64>(h, 0);  // backing file offset
    put<u32>(h, static_cast<u32>(o.backing_name.size()));
    put<u32>(h, o.cluster_bits);
    put<u64>(h, o.size);
    h.resize(72);
    if (o.version == 3) {
        put<u64>(h, u64{o.dirty} | (o.data_file != DataFile::none ? 4u : 0u) | (o.compression == Compression::zstd ? 8u : 0u) |
                        (o.extended_l2 ? 16u : 0u));
        put<u64>(h, u64{o.lazy_refcounts} | (o.unknown_compatible_bit ? u64{1} << 40 : 0));
        put<u64>(h, (bitmaps ? 1u : 0u) | (o.data_file == DataFile::raw ? 2u : 0u));
        put<u32>(h, o.refcount_order);
        const bool typed = o.compression == Compression::zstd || o.long_header;
        const u32 length = o.long_header ? 128 : typed ? 112 : 104;
        put<u32>(h, length);
        if (typed) h.push_back(o.compression == Compression::zstd ? 1 : 0);
        h.resize(length);
    }
    if (o.unknown_extension) {
        const auto e = extension(0x7e571234, {'d', 'm', '-', 'c', 'h', 'a', 'i', 'n', '?'});
        h.insert(h.end(), e.begin(), e.end());
    }
    if (!o.backing_format.empty()) {
        const auto e = extension(0xe2792aca, {o.backing_format.begin(), o.backing_format.end()});
        h.insert(h.end(), e.begin(), e.end());
    }
    if (o.data_file != DataFile::none) {
        const auto e = extension(0x44415441, {o.data_name.begin(), o.data_name.end()});
        h.insert(h.end(), e.begin(), e.end());
    }
    if (bitmaps) {
        std::vector<u8> c;
        put<u32>(c, static_cast<u32>(bitmaps));
        put<u32>(c, 0);
        put<u64>(c, directory_bytes);
        put<u64>(c, directory);
        const auto e = extension(0x23852875, c);
        h.insert(h.end(), e.begin(), e.end());
    }
    if (o.feature_table) {
        std::vector<u8> c;
        put_feature(c, 0, 0, "dirty bit");
        put_feature(c, 0, 2, "external data file");
        put_feature(c, 0, 3, "compression type");
        put_feature(c, 0, 4, "extended L2 entries");
        put_feature(c, 1, 0, "lazy refcounts");
        put_feature(c, 1, 40, "a bit that nobody knows");
        const auto e = extension(0x6803f857, c);
        h.insert(h.end(), e.begin(), e.end());
    }
    put<u64>(h, 0);  // end of extensions
    if (!o.backing_name.empty()) {
        std::vector<u8> at;
        put<u64>(at, h.size());
        std::copy(at.begin(), at.end(), h.begin() + 8);
        put_text(h, o.backing_name);
    }
    return h;
}

bool Image::fits(const ImageOptions& o) {
    // With room for a bitmaps extension.
    return o.backing_name.size() <= 1023 && header(o, 0, 0, 0).size() + 32 <= u64{1} << o.cluster_bits;
}

void Image::finish() {
    const u64 per_table = cluster_bytes() / (o_.extended_l2 ? 16 : 8);
    const u64 l1_entries = (clusters() + per_table - 1) / per_table;
    const auto l1_clusters = [&](u64 entries) { return (entries * 8 + cluster_bytes() - 1) / cluster_bytes(); };
    for (auto& s : snapshots_) {
        s.tables.l2.resize(l1_entries);
        s.l1_host = allocate(l1_clusters(l1_entries));
    }
    active_.l2.resize(l1_entries + o_.spare_l1);
    const u64 l1_host = active_.l2.empty() ? 0 : allocate(l1_clusters(active_.l2.size()));
    const auto [directory, directory_bytes] = write_bitmaps();
    const u64 snapshot_table = write_snapshots();
    write_refcounts();
    for (const auto& s : snapshots_) write_tables(s.tables, s.l1_host);
    write_tables(active_, l1_host);

    std::vector<u8> h = header(o_, bitmaps_.size(), directory, directory_bytes);
    std::vector<u8> places;
    put<u32>(places, static_cast<u32>(active_.l2.size()));
    put<u64>(places, l1_host);
    put<u64>(places, refcount_table_);
    put<u32>(places, static_cast<u32>(refcount_table_clusters_));
    put<u32>(places, static_cast<u32>(snapshots_.size()));
    put<u64>(places, snapshot_table);
    std::copy(places.begin(), places.end(), h.begin() + 36);
    file_.write(0, h);
    file_.resize(std::max<u64>(refs_.size(), next_) << o_.cluster_bits);
    if (data_file_) data_file_->resize(o_.data_file == DataFile::raw ? o_.size : clusters() << o_.cluster_bits);
}

}  // namespace gen
