// SPDX-License-Identifier: GPL-2.0-or-later
// See overlay.hpp. In this order, in clusters of 64 KiB: header, refcount table, refcount block, L1 table (all 0), bitmap directory,
// bitmap table, the bitmap's clusters that are not all 0 (qcow2.txt: "Bitmaps extension", "Bitmaps").
#include "qcow2/overlay.hpp"

#include <algorithm>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/be_bytes.hpp"
#include "qcow2/format.hpp"

namespace dmchain::qcow2 {

namespace {

constexpr unsigned cluster_bits = 16;
constexpr std::uint64_t cluster = std::uint64_t{1} << cluster_bits;
constexpr std::uint64_t l2_span = cluster / 8 * cluster;
constexpr std::uint64_t directory_entry = 24;  // bytes, before the name

std::uint64_t clusters_for(std::uint64_t bytes) { return (bytes + cluster - 1) >> cluster_bits; }

void write(const BeBytes& bytes, Writable& to, std::uint64_t offset) { to.write(bytes.data(), bytes.size(), offset); }

}  // namespace

void make_overlay(const std::string& path, const OverlayOptions& o) {
    if (o.backing_name.size() > max_backing_name)
        throw failed("{}: its path has {} bytes, expected at most {} for an image on top of it", escaped(o.backing_name),
                     o.backing_name.size(), max_backing_name);
    const std::uint64_t l1_entries = std::max<std::uint64_t>(1, (o.size + l2_span - 1) / l2_span);
    const std::uint64_t l1_at = 3 * cluster, directory_at = l1_at + (clusters_for(l1_entries * 8) << cluster_bits);
    const std::uint64_t table_at = directory_at + cluster;
    const std::uint64_t bitmap_bytes = o.bitmap ? o.bitmap->bytes().size() : 0, parts = clusters_for(bitmap_bytes);
    std::uint64_t next = table_at + (clusters_for(parts * 8) << cluster_bits);

    Writable to = Writable::create(path);
    if (o.bitmap) {
        BeBytes table(clusters_for(parts * 8) << cluster_bits);
        for (std::uint64_t i = 0; i < parts; i++) {
            const auto* data = o.bitmap->bytes().data() + (i << cluster_bits);
            const std::uint64_t n = std::min(cluster, bitmap_bytes - (i << cluster_bits));
            if (std::all_of(data, data + n, [](unsigned char c) { return !c; })) continue;
            table.put64(i * 8, next);
            to.write(data, n, next);
            next += cluster;
        }
        write(table, to, table_at);
        BeBytes directory(cluster);
        directory.put64(0, table_at);
        directory.put32(8, static_cast<std::uint32_t>(parts));
        directory.put8(16, 1);  // a bitmap of dirty blocks
        directory.put8(17, static_cast<unsigned char>(o.bitmap->block_bits()));
        directory.put16(18, static_cast<std::uint16_t>(o.bitmap_name.size()));
        directory.put_text(directory_entry, o.bitmap_name);
        write(directory, to, directory_at);
    }
    const std::uint64_t used = next >> cluster_bits;
    if (used > cluster / 2) throw failed("{}: takes {} clusters, expected at most {}", escaped(path), used, cluster / 2);
    BeBytes counts(cluster);
    for (std::uint64_t i = 0; i < used; i++)
        if (o.bitmap || i << cluster_bits < directory_at) counts.put16(i * 2, 1);
    write(counts, to, 2 * cluster);
    BeBytes table(cluster);
    table.put64(0, 2 * cluster);
    write(table, to, cluster);

    constexpr std::uint32_t header_length = 104;
    BeBytes h(cluster);
    h.put32(0, magic);
    h.put32(4, 3);
    h.put32(20, cluster_bits);
    h.put64(24, o.size);
    h.put32(36, static_cast<std::uint32_t>(l1_entries));
    h.put64(40, l1_at);
    h.put64(48, cluster);
    h.put32(56, 1);
    h.put64(88, o.bitmap ? autoclear_bitmaps : 0);
    h.put32(96, 4);  // refcounts of 16 bits
    h.put32(100, header_length);
    std::size_t at = header_length;
    h.put32(at, extension_backing_format);
    h.put32(at + 4, static_cast<std::uint32_t>(o.backing_format.size()));
    h.put_text(at + 8, o.backing_format);
    at += 16;
    if (o.bitmap) {
        h.put32(at, extension_bitmaps);
        h.put32(at + 4, 24);
        h.put32(at + 8, 1);
        h.put64(at + 16, (directory_entry + o.bitmap_name.size() + 7) & ~std::uint64_t{7});
        h.put64(at + 24, directory_at);
        at += 32;
    }
    at += 8;  // the end of the extensions: 0
    h.put64(8, at);
    h.put32(16, static_cast<std::uint32_t>(o.backing_name.size()));
    h.put_text(at, o.backing_name);
    write(h, to, 0);
    if (to.size() < next) to.resize(next);
}

}  // namespace dmchain::qcow2
