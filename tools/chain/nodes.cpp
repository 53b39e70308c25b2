// SPDX-License-Identifier: GPL-2.0-or-later
// Writing index nodes; include/dm-chain-format.h and docs/format.md have the layout.
#include "chain/nodes.hpp"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "chain/format.hpp"
#include "io/error.hpp"

namespace dmchain::chain {

// Whether @entry is what @from is, @children further on.
bool NodeBuilder::goes_on(std::uint64_t from, std::size_t children, std::uint64_t entry) const {
    return chain_entry_kind(from) <= CHAIN_DATA && entry == advance(from, children * sectors_);
}

std::uint64_t NodeBuilder::whole(const std::uint64_t* entries, std::size_t count) const {
    if (chain_entry_kind(entries[0]) > CHAIN_DATA) return 0;
    for (std::size_t i = 1; i < count; i++)
        if (!goes_on(entries[0], i, entries[i])) return 0;
    return entries[0];
}

std::uint64_t NodeBuilder::pack(std::uint64_t entry) {
    if (chain_entry_kind(entry) == CHAIN_COMPRESSED) {
        const auto at = aux_.size();
        const chain_compressed& c = window_->compressed(entry);
        aux_.resize(at + CHAIN_COMPRESSED_WORDS);
        std::memcpy(&aux_[at], &c, sizeof c);
        return chain_entry(CHAIN_COMPRESSED, 0, at);
    }
    if (chain_entry_kind(entry) == CHAIN_FINE) {
        const auto at = aux_.size();
        const std::uint32_t count = geometry_.subblocks();
        const std::uint64_t* fine = window_->fine(entry);
        aux_.resize(at + count);
        for (std::uint32_t i = 0; i < count; i++) {
            // Subblocks of one compressed cluster share its record.
            const std::uint64_t packed = i && fine[i] == fine[i - 1] && chain_entry_kind(fine[i]) == CHAIN_COMPRESSED
                                             ? le64toh(aux_[at + i - 1])
                                             : pack(fine[i]);
            aux_[at + i] = htole64(packed);
        }
        return chain_entry(CHAIN_FINE, 0, at);
    }
    return entry;
}

std::uint32_t NodeBuilder::append(const std::uint64_t* entries, std::size_t count, std::vector<std::byte>& out) {
    aux_.clear();
    std::vector<std::uint16_t> starts;
    std::vector<std::uint64_t> body;
    for (std::size_t i = 0; i < count; i++) {
        if (!starts.empty() && goes_on(entries[starts.back()], i - starts.back(), entries[i])) continue;
        starts.push_back(static_cast<std::uint16_t>(i));
        if (starts.size() > max_runs) break;
    }
    const bool runs = starts.size() <= max_runs;
    if (runs) {
        for (const auto s : starts) body.push_back(htole64(pack(entries[s])));
    } else {
        for (std::size_t i = 0; i < count; i++) body.push_back(htole64(pack(entries[i])));
    }

    chain_node header{};
    header.magic = htole32(CHAIN_NODE_MAGIC);
    header.level = static_cast<__u8>(level_);
    header.form = runs ? CHAIN_FORM_RUNS : CHAIN_FORM_ARRAY;
    header.count_minus_1 = htole16(static_cast<std::uint16_t>(body.size() - 1));
    header.aux_words = htole32(static_cast<std::uint32_t>(aux_.size()));
    header.first = htole64(first_);

    const std::size_t at = out.size();
    const std::uint32_t aux_at = chain_node_aux_at(header.form, static_cast<unsigned>(body.size()));
    const std::size_t bytes = aux_at + 8 * aux_.size(), padded = (bytes + 511) & ~std::size_t{511};
    if (padded > CHAIN_MAX_NODE_BYTES) throw failed("index node of {} bytes: the format allows {}", padded, CHAIN_MAX_NODE_BYTES);
    out.resize(at + padded);
    std::byte* p = out.data() + at;
    std::memcpy(p + sizeof header, body.data(), 8 * body.size());
    if (runs)
        for (std::size_t i = 0; i < starts.size(); i++) {
            const std::uint16_t s = htole16(starts[i]);
            std::memcpy(p + sizeof header + 8 * body.size() + 2 * i, &s, 2);
        }
    if (!aux_.empty()) std::memcpy(p + aux_at, aux_.data(), 8 * aux_.size());
    std::memcpy(p, &header, sizeof header);
    header.crc = htole32(chain_crc32c_more(0, p + 8, bytes - 8));
    std::memcpy(p, &header, sizeof header);
    return static_cast<std::uint32_t>(padded);
}

}  // namespace dmchain::chain
