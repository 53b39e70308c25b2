// SPDX-License-Identifier: GPL-2.0-or-later
// See disk.hpp.
#include "chain/disk.hpp"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/error.hpp"

namespace dmchain::chain {

Geometry geometry_at(const qcow2::Chain& chain, std::size_t point) {
    const std::uint64_t size = chain.layers()[point]->virtual_size();
    return {size, index_cluster_bits,
            std::min<unsigned>(CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(std::countr_zero(chain.unit(point, size))))};
}

void fill(Window& window, const qcow2::Chain& chain, std::size_t point, qcow2::Scratch& scratch) {
    fill(window, chain, point, scratch,
         [&](std::size_t i, const qcow2::Extent& x) { window.apply(x, static_cast<unsigned>(i + 1)); });
}

Disk::Part Disk::part(std::uint64_t begin) {
    const std::lock_guard lock(lock_);
    const auto found = std::ranges::find(parts_, begin, &Part::begin);
    if (found != parts_.end()) {
        parts_.splice(parts_.begin(), parts_, found);
        return *found;
    }
    Part made{begin};
    try {
        auto window = std::make_shared<Window>(geometry_);
        window->clear(begin >> geometry_.cluster_shift);
        fill(*window, chain_, point_, scratch_);
        made.window = std::move(window);
    } catch (const Error&) {  // what is read may be well: the plain reader finds out
    }
    parts_.push_front(made);
    std::uint64_t bytes = 0;
    parts_.erase(std::ranges::find_if(parts_,
                                      [&](const Part& p) {
                                          bytes += p.window ? p.window->memory() : sizeof(Part);
                                          return bytes > kept_bytes && p.begin != begin;
                                      }),
                 parts_.end());
    return made;
}

void Disk::Reader::read(void* buffer, std::size_t bytes, std::uint64_t offset) {
    auto* to = static_cast<unsigned char*>(buffer);
    const std::uint64_t size = disk_->geometry_.bytes;
    const std::uint64_t there = offset < size ? std::min<std::uint64_t>(bytes, size - offset) : 0;
    std::memset(to + there, 0, bytes - there);
    for (std::uint64_t at = offset, end = offset + there, next; at < end; to += next - at, at = next) {
        const std::uint64_t begin = at - at % part_bytes;
        next = std::min(end, begin + part_bytes);
        if (part_.begin != begin) part_ = disk_->part(begin);
        if (part_.window)
            read(*part_.window, to, at, next);
        else
            plain_.read(to, next - at, at);
    }
}

void Disk::Reader::read(const Window& window, unsigned char* to, std::uint64_t begin, std::uint64_t end) {
    const Geometry& g = disk_->geometry_;
    // What lies contiguously in a file is read at once.
    const File* file = nullptr;
    std::uint64_t from = 0, run = begin;
    const auto read_run = [&](std::uint64_t at) {
        if (file) file->read_padded(to + (run - begin), at - run, from);
        file = nullptr;
    };
    for (std::uint64_t at = begin, n; at < end; at += n) {
        std::uint64_t entry = window.entry(static_cast<std::uint32_t>((at >> g.cluster_shift) - window.first()));
        std::uint64_t size = g.cluster_bytes();
        if (chain_entry_kind(entry) == CHAIN_FINE) {
            entry = window.fine(entry)[at % size >> g.subblock_shift];
            size = std::uint64_t{1} << g.subblock_shift;
        }
        n = std::min(end - at, size - at % size);
        const auto layer_of = [&](unsigned id) -> const qcow2::Layer& { return *disk_->chain_.layers()[id - 1]; };
        switch (chain_entry_kind(entry)) {
        case CHAIN_DATA: {
            const qcow2::Layer& layer = layer_of(chain_entry_layer(entry));
            const File* const f = layer.data_file() ? layer.data_file() : &layer.file();
            const std::uint64_t place = chain_entry_pos(entry) * 512 + at % size;
            if (f == file && place == from + (at - run)) continue;
            read_run(at);
            file = f;
            from = place;
            run = at;
            continue;
        }
        case CHAIN_COMPRESSED: {
            const chain_compressed& c = window.compressed(entry);
            const qcow2::Layer& layer = layer_of(le16toh(c.layer));
            const unsigned char* const bytes = inflated_.get(layer, le64toh(c.offset), le32toh(c.bytes), at);
            read_run(at);
            std::memcpy(to + (at - begin), bytes + at % (std::uint64_t{1} << layer.cluster_bits()), n);
            continue;
        }
        default: read_run(at); std::memset(to + (at - begin), 0, n);
        }
    }
    read_run(end);
}

}  // namespace dmchain::chain
