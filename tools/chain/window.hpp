// SPDX-License-Identifier: GPL-2.0-or-later
// A stretch of the virtual disk while its part of the index is made: layers are laid over one another,
// base first, then the result is read out leaf by leaf. The builder has one for each thread.
#pragma once

#include <cstdint>
#include <vector>

#include "dm-chain-format.h"
#include "qcow2/extent.hpp"

namespace dmchain::chain {

// Sizes that all windows of a chain share.
struct Geometry {
    std::uint64_t bytes;      // of the virtual disk, a multiple of 512
    unsigned cluster_shift;   // log2 bytes
    unsigned subblock_shift;  // log2 bytes, <= cluster_shift

    std::uint64_t cluster_bytes() const { return std::uint64_t{1} << cluster_shift; }
    std::uint64_t clusters() const { return (bytes + cluster_bytes() - 1) >> cluster_shift; }
    std::uint32_t subblocks() const { return 1u << (cluster_shift - subblock_shift); }  // of a cluster
};

class Window {
public:
    static constexpr unsigned leaves = 16;  // 512 MiB at 64 KiB clusters: one L2 table, 64 KiB of entries
    static constexpr unsigned cells = leaves * CHAIN_FANOUT;

    explicit Window(const Geometry& geometry) : geometry_(geometry), whole_(leaves), cell_(cells) {}

    // Starts again at cluster @first: all holes.
    void clear(std::uint64_t first);
    // What a layer says: @layer is the id that holds its data. The extent lies within the window and the disk,
    // and begins and ends at subblocks (or at the end of the disk).
    void apply(const qcow2::Extent& extent, unsigned layer);
    // From byte @begin of the disk on nothing that was applied so far shows: the layer that comes next is shorter
    // than the disk. @begin is a multiple of the subblock, anywhere.
    void cut(std::uint64_t begin);
    // Makes fine clusters plain again where their subblocks agree. After the last apply().
    void settle();

    std::uint64_t first() const { return first_; }  // cluster
    std::uint64_t begin() const { return first_ << geometry_.cluster_shift; }
    std::uint64_t end() const;      // bytes; not past the end of the disk
    std::uint64_t memory() const {  // bytes
        return (whole_.size() + cell_.size() + fine_.size()) * sizeof(std::uint64_t) +
               compressed_.size() * sizeof(chain_compressed);
    }
    // Clusters of the window that lie in the disk.
    std::uint32_t used() const;

    // If a leaf is known to be one contiguous range: its first entry. Otherwise 0.
    std::uint64_t whole(std::uint32_t leaf) const { return whole_[leaf]; }
    // An entry as in the chain file, but the positions of FINE and COMPRESSED are indexes for the next two.
    std::uint64_t entry(std::uint32_t cell) const {
        const std::uint64_t whole = whole_[cell >> CHAIN_FANOUT_SHIFT];
        return whole ? child(whole, cell & (CHAIN_FANOUT - 1)) : cell_[cell];
    }
    const std::uint64_t* fine(std::uint64_t entry) const { return &fine_[chain_entry_pos(entry)]; }
    const chain_compressed& compressed(std::uint64_t entry) const { return compressed_[chain_entry_pos(entry)]; }

private:
    std::uint64_t child(std::uint64_t entry, std::uint64_t clusters) const {
        return chain_entry_advance(entry, clusters << (geometry_.cluster_shift - 9));
    }
    void set(std::uint64_t begin, std::uint64_t end, std::uint64_t entry);
    void spread(std::uint32_t leaf);
    std::uint64_t* make_fine(std::uint32_t cell);

    Geometry geometry_;
    std::uint64_t first_ = 0;
    // What was written in order is handled by the leaf; only where there is more than one range do cells count.
    std::vector<std::uint64_t> whole_;
    std::vector<std::uint64_t> cell_;
    std::vector<std::uint64_t> fine_;
    std::vector<chain_compressed> compressed_;
};

// The entry @sectors further on, for entries of a window: all kinds but DATA stay what they are.
inline std::uint64_t advance(std::uint64_t entry, std::uint64_t sectors) { return chain_entry_advance(entry, sectors); }

}  // namespace dmchain::chain
