// SPDX-License-Identifier: GPL-2.0-or-later
#include "chain/writer.hpp"

#include <endian.h>
#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "chain/format.hpp"
#include "chain/nodes.hpp"
#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t hole = CHAIN_HOLE;

std::uint64_t node_entry(std::uint64_t at, std::uint64_t bytes) {
    return chain_entry(CHAIN_NODE, static_cast<unsigned>(bytes >> 9), at >> 9);
}

std::uint64_t sectors_up(std::uint64_t bytes) { return (bytes + 511) & ~std::uint64_t{511}; }

}  // namespace

Writer::Writer(const std::string& path, const Geometry& geometry, LayerTable& layers)
    : geometry_(geometry), layers_(layers), out_(path), compressed_(layers.records.size() + 1) {
    const std::uint64_t most = std::min<std::uint64_t>(
        std::uint64_t{CHAIN_MAX_ROOT} << (2 * CHAIN_FANOUT_SHIFT + geometry.cluster_shift), CHAIN_MAX_SECTORS << 9);
    if (geometry_.bytes > most)
        throw failed("{}: virtual size {}: at most {} is possible", escaped(path), human_size(geometry_.bytes), human_size(most));
    layers_.name_home(absolute_name(path));
    leaf_.resize((geometry_.clusters() + CHAIN_FANOUT - 1) >> CHAIN_FANOUT_SHIFT);
    next_ = sectors_up(layers_at + layers_.bytes().size());
}

void Writer::note_compressed(const Window& window, std::uint64_t entry) {
    if (chain_entry_kind(entry) == CHAIN_COMPRESSED) {
        auto& flag = compressed_[le16toh(window.compressed(entry).layer)];
        if (!flag.load(std::memory_order_relaxed)) flag = true;
    } else if (chain_entry_kind(entry) == CHAIN_FINE) {
        for (std::uint32_t i = 0; i < geometry_.subblocks(); i++) note_compressed(window, window.fine(entry)[i]);
    }
}

// Writes @bytes, whole sectors, behind what is there; returns where.
std::uint64_t Writer::place(const std::vector<std::byte>& bytes) {
    const std::uint64_t at = next_.fetch_add(bytes.size());
    out_.write(bytes.data(), bytes.size(), at);
    return at;
}

void Writer::add(const Window& window, std::vector<std::byte>& buffer) {
    struct Made {
        std::uint64_t leaf;
        std::uint64_t at;  // bytes in the buffer
        std::uint32_t bytes;
    };
    std::vector<Made> made;
    std::vector<std::uint64_t> entries(CHAIN_FANOUT);
    std::uint64_t clusters = 0;
    buffer.clear();
    for (std::uint32_t c = 0; c < window.used(); c += CHAIN_FANOUT) {
        const std::uint32_t n = std::min<std::uint32_t>(CHAIN_FANOUT, window.used() - c);
        const std::uint64_t first = window.first() + c, leaf = first >> CHAIN_FANOUT_SHIFT;
        leaf_[leaf] = window.whole(c >> CHAIN_FANOUT_SHIFT);
        if (leaf_[leaf]) {
            clusters += chain_entry_kind(leaf_[leaf]) != CHAIN_HOLE ? n : 0;
            continue;
        }
        for (std::uint32_t i = 0; i < CHAIN_FANOUT; i++) {
            entries[i] = i < n ? window.entry(c + i) : hole;
            clusters += chain_entry_kind(entries[i]) != CHAIN_HOLE;
            if (chain_entry_kind(entries[i]) > CHAIN_DATA) note_compressed(window, entries[i]);
        }
        NodeBuilder node(0, first, geometry_.cluster_bytes() >> 9, geometry_, &window);
        leaf_[leaf] = node.whole(entries.data(), n);
        if (leaf_[leaf]) continue;
        const std::uint64_t at = buffer.size();
        made.push_back({leaf, at, node.append(entries.data(), CHAIN_FANOUT, buffer)});
    }
    clusters_ += clusters;
    nodes_ += made.size();
    if (made.empty()) return;
    const std::uint64_t at = place(buffer);
    for (const Made& m : made) leaf_[m.leaf] = node_entry(at + m.at, m.bytes);
}

// The level above @slots, @span of them for a node; returns the slots of its nodes.
std::vector<std::uint64_t> Writer::add_level(unsigned level, const std::vector<std::uint64_t>& slots, std::size_t span) {
    const std::uint64_t sectors = (geometry_.cluster_bytes() >> 9) << chain_level_shift(level);
    const bool root = level == CHAIN_LEVELS - 1;
    std::vector<std::uint64_t> above;
    std::vector<std::byte> buffer;
    for (std::size_t i = 0; i < slots.size(); i += span) {
        const std::size_t n = std::min(span, slots.size() - i);
        std::vector<std::uint64_t> entries(&slots[i], &slots[i] + n);
        if (!root) entries.resize(CHAIN_FANOUT, hole);
        NodeBuilder node(level, i << chain_level_shift(level), sectors, geometry_, nullptr);
        const std::uint64_t whole = root ? 0 : node.whole(entries.data(), n);
        if (whole) {
            above.push_back(whole);
            continue;
        }
        buffer.clear();
        const std::uint32_t bytes = node.append(entries.data(), entries.size(), buffer);
        above.push_back(node_entry(place(buffer), bytes));
        nodes_++;
    }
    return above;
}

// Middle nodes and root; returns the superblock's entry for the root.
std::uint64_t Writer::add_upper() {
    const auto middle = add_level(1, leaf_, CHAIN_FANOUT);
    if (std::all_of(middle.begin(), middle.end(), [](std::uint64_t e) { return e == hole; })) return hole;
    return add_level(2, middle, middle.size())[0];
}

BuildResult Writer::finish(const ActiveState* active, bool replace) {
    const std::uint64_t root = add_upper();
    for (std::size_t i = 0; i < layers_.records.size(); i++)
        if (compressed_[i + 1]) layers_.records[i].flags |= htole32(CHAIN_LAYER_HAS_COMPRESSED);
    auto table = layers_.bytes();
    const std::size_t table_bytes = table.size();
    const std::uint32_t table_crc = chain_crc32c_more(0, table.data(), table_bytes);
    table.resize(sectors_up(table_bytes));
    out_.write(table.data(), table.size(), layers_at);
    out_.sync();

    chain_super s{};
    std::memcpy(s.magic, CHAIN_MAGIC, sizeof s.magic);
    s.version = htole32(CHAIN_VERSION);
    if (::getrandom(s.uuid, sizeof s.uuid, 0) != sizeof s.uuid) throw failed("no random bytes for the chain's uuid");
    s.sectors = htole64(geometry_.bytes >> 9);
    s.cluster_shift = static_cast<__u8>(geometry_.cluster_shift);
    s.subblock_shift = static_cast<__u8>(geometry_.subblock_shift);
    s.active = htole16(active ? active->id : CHAIN_NO_LAYER);
    if (active) {
        s.log_segment = htole64(active->log_segment);
        s.log_segment_bytes = htole64(active->log_segment_bytes);
        s.log_next = htole64(active->log_next);
        s.log_sequence = htole64(active->log_sequence);
        s.log_epoch = htole32(active->log_epoch);
        s.alloc_next = htole64(active->alloc_next);
        std::uint32_t next_id = 1;
        for (const chain_layer& l : layers_.records) next_id = std::max(next_id, le16toh(l.id) + 1u);
        s.next_id = htole32(next_id);
    }
    s.self_inode = htole64(out_.inode());
    s.home_offset = htole32(layers_.home);
    s.home_bytes = htole16(layers_.home_bytes);
    s.layer_count = htole32(static_cast<std::uint32_t>(layers_.records.size()));
    s.layer_offset = htole64(layers_at);
    s.string_bytes = htole32(static_cast<std::uint32_t>(layers_.strings.size()));
    s.layer_crc = htole32(table_crc);
    s.root = htole64(root);
    s.file_bytes = htole64(next_);
    s.nodes = htole64(nodes_);
    s.clusters = htole64(clusters_);
    s.crc = htole32(chain_crc32c_more(0, &s, sizeof s));
    out_.write(&s, sizeof s, 0);
    out_.commit(replace);
    return {geometry_.bytes >> 9, nodes_, clusters_, next_};
}

}  // namespace dmchain::chain
