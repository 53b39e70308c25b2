// SPDX-License-Identifier: GPL-2.0-or-later
// Neighbouring layers of a chain, cluster by cluster: what is visible of them, and what lies below them as if it was not there.
// For merge.hpp and add.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "chain/builder.hpp"
#include "chain/disk.hpp"
#include "chain/window.hpp"
#include "qcow2/chain.hpp"

#include "dm-chain-log.h"

namespace dmchain::chain {

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
          geometry_(geometry_at(range, range.layers().size() - 1)),
          unit_bits_(chain_unit_shift(index_cluster_bits, geometry_.subblock_shift)),
          window_(geometry_) {}

    std::uint32_t unit_bits() const { return unit_bits_; }
    std::uint64_t data_bytes(const Cluster& c) const { return static_cast<std::uint64_t>(std::popcount(c.data)) << unit_bits_; }
    // Whether nothing of it comes from below.
    bool is_whole(const Cluster& c) const {
        const std::uint64_t there =
            std::min(geometry_.bytes - (c.number << index_cluster_bits), std::uint64_t{1} << index_cluster_bits);
        const std::uint64_t units = (there + (std::uint64_t{1} << unit_bits_) - 1) >> unit_bits_;
        const std::uint32_t all = ~std::uint32_t{0} >> (32 - units);
        return flat_ || ((c.data | c.zero) & all) == all;
    }
    std::uint64_t unit_sectors() const { return (std::uint64_t{1} << unit_bits()) / 512; }

    // Calls @use(cluster, entry) for each cluster that some layer defines, until it returns false; entry(i) is that of its unit i, if
    // it is not assembled. Returns whether it was called for all.
    template <typename Use>
    bool all(const Use& use) {
        for (std::uint64_t first = 0; first < geometry_.clusters(); first += Window::cells) {
            window_.clear(first);
            fill(window_, range_, range_.layers().size() - 1, scratch_);
            for (std::uint32_t cell = 0; cell < window_.used(); cell++)
                if (!one(first + cell, window_.entry(cell), use)) return false;
        }
        return true;
    }

    struct Data {
        std::uint64_t guest;  // byte of the disk
        std::uint64_t bytes;
        bool assembled;      // it has to be put together first; otherwise:
        unsigned layer;      // number of the layer that has it, ...
        std::uint64_t from;  // ... at this byte of its file
    };
    // Calls @use(Data) for the data of a cluster, as all() gives it; contiguous in one file, or assembled.
    template <typename Entry, typename Use>
    void each_data(const Cluster& c, const Entry& entry, const Use& use) const {
        const std::uint64_t unit = std::uint64_t{1} << unit_bits_;
        const std::uint32_t units = 1u << (index_cluster_bits - unit_bits_);
        for (std::uint32_t i = 0, n; i < units; i += n) {
            n = 1;
            if (!(c.data >> i & 1)) continue;
            Data d{(c.number << index_cluster_bits) + i * unit, 0, c.assembled, 0, 0};
            if (c.assembled) {
                while (i + n < units && c.data >> (i + n) & 1) n++;
            } else {
                const std::uint64_t e = entry(i);
                while (i + n < units && entry(i + n) == chain_entry_advance(e, n * unit_sectors())) n++;
                d.layer = chain_entry_layer(e) - 1;
                d.from = chain_entry_pos(e) * 512;
            }
            d.bytes = n * unit;
            use(d);
        }
    }

private:
    template <typename Use>
    bool one(std::uint64_t number, std::uint64_t e, const Use& use) const {
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
        return !(c.stored | c.zero) || use(c, entry);
    }

    const qcow2::Chain& range_;
    const bool flat_;
    const Geometry geometry_;
    const std::uint32_t unit_bits_;
    Window window_;
    qcow2::Scratch scratch_;
};

}  // namespace dmchain::chain
