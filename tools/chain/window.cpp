// SPDX-License-Identifier: GPL-2.0-or-later
// Laying layers over one another in a window of the index.
#include "chain/window.hpp"

#include <endian.h>

#include <algorithm>

namespace dmchain::chain {

void Window::clear(std::uint64_t first) {
    first_ = first;
    std::fill(whole_.begin(), whole_.end(), chain_entry(CHAIN_HOLE, 0, 0));
    fine_.clear();
    compressed_.clear();
}

std::uint64_t Window::end() const { return std::min(geometry_.bytes, (first_ + cells) << geometry_.cluster_shift); }

std::uint32_t Window::used() const {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(cells, geometry_.clusters() - first_));
}

std::uint64_t* Window::make_fine(std::uint32_t cell) {
    const std::uint64_t old = cell_[cell];
    const std::uint32_t count = geometry_.subblocks();
    if (chain_entry_kind(old) == CHAIN_FINE) return &fine_[chain_entry_pos(old)];
    cell_[cell] = chain_entry(CHAIN_FINE, 0, fine_.size());
    for (std::uint32_t i = 0; i < count; i++) fine_.push_back(advance(old, std::uint64_t{i} << (geometry_.subblock_shift - 9)));
    return &fine_[chain_entry_pos(cell_[cell])];
}

// Its cells count from now on.
void Window::spread(std::uint32_t leaf) {
    if (!whole_[leaf]) return;
    for (std::uint32_t i = 0; i < CHAIN_FANOUT; i++) cell_[leaf * CHAIN_FANOUT + i] = child(whole_[leaf], i);
    whole_[leaf] = 0;
}

// @entry is that of byte @begin of the disk.
void Window::set(std::uint64_t begin, std::uint64_t end, std::uint64_t entry) {
    const std::uint64_t size = geometry_.cluster_bytes();
    // What reaches the end of the disk fills its last cluster.
    if (end == geometry_.bytes) end = (end + size - 1) & ~(size - 1);
    while (begin < end) {
        const auto cell = static_cast<std::uint32_t>((begin >> geometry_.cluster_shift) - first_);
        const std::uint32_t leaf = cell >> CHAIN_FANOUT_SHIFT;
        const std::uint64_t within = begin & (size - 1);
        const std::uint64_t leaf_bytes = size << CHAIN_FANOUT_SHIFT;
        std::uint64_t bytes = std::min(end - begin, size - within);
        if (begin % leaf_bytes == 0 && end - begin >= leaf_bytes) {
            bytes = leaf_bytes;
            whole_[leaf] = entry;
        } else if (spread(leaf); bytes == size) {
            cell_[cell] = entry;
        } else {
            std::uint64_t* fine = make_fine(cell);
            for (std::uint64_t at = within; at < within + bytes; at += 1u << geometry_.subblock_shift)
                fine[at >> geometry_.subblock_shift] = advance(entry, (at - within) >> 9);
        }
        entry = advance(entry, bytes >> 9);
        begin += bytes;
    }
}

void Window::apply(const qcow2::Extent& x, unsigned layer) {
    std::uint64_t entry = 0;
    switch (x.kind) {
    case qcow2::Kind::zero: entry = chain_entry(CHAIN_ZERO, layer, 0); break;
    case qcow2::Kind::data: entry = chain_entry(CHAIN_DATA, layer, x.host >> 9); break;
    case qcow2::Kind::compressed:
        entry = chain_entry(CHAIN_COMPRESSED, layer, compressed_.size());
        compressed_.push_back({htole64(x.host), htole32(x.host_bytes), htole16(static_cast<std::uint16_t>(layer)), 0});
        break;
    }
    set(x.guest, x.guest + x.bytes, entry);
}

void Window::cut(std::uint64_t begin) {
    begin = std::max(begin, this->begin());
    if (begin < end()) set(begin, end(), chain_entry(CHAIN_HOLE, 0, 0));
}

void Window::settle() {
    const std::uint32_t count = geometry_.subblocks(), n = used();
    const std::uint64_t sectors = std::uint64_t{1} << (geometry_.subblock_shift - 9);
    for (std::uint32_t c = 0; c < n; c++) {
        if (whole_[c >> CHAIN_FANOUT_SHIFT]) {
            c |= CHAIN_FANOUT - 1;
            continue;
        }
        if (chain_entry_kind(cell_[c]) != CHAIN_FINE) continue;
        std::uint64_t* fine = &fine_[chain_entry_pos(cell_[c])];
        std::uint32_t i = 1;
        while (i < count && fine[i] == advance(fine[0], i * sectors)) i++;
        if (i == count) cell_[c] = fine[0];
        // What lies past the end of the disk may lie past the end of a file, too.
        const std::uint64_t begin = (first_ + c) << geometry_.cluster_shift;
        for (i = 0; i < count; i++)
            if (begin + (std::uint64_t{i} << geometry_.subblock_shift) >= geometry_.bytes) fine[i] = CHAIN_HOLE;
    }
}

}  // namespace dmchain::chain
