// SPDX-License-Identifier: GPL-2.0-or-later
// The disk at a point of a chain, read in user space through an index of its layers: one lookup at any depth. The index is made as it
// is needed, window by window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "chain/builder.hpp"
#include "chain/window.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/inflated.hpp"
#include "qcow2/reader.hpp"

namespace dmchain::chain {

// Lays the layers of @chain up to number @point over one another in @window, whose disk is that point's: @apply(number, extent) applies
// what a layer says. Throws damaged() for a wrong table entry.
template <typename Apply>
void fill(Window& window, const qcow2::Chain& chain, std::size_t point, qcow2::Scratch& scratch, const Apply& apply) {
    const std::uint64_t size = chain.layers()[point]->virtual_size();
    for (std::size_t i = 0; i <= point; i++) {
        const qcow2::Layer& layer = *chain.layers()[i];
        if (i && layer.virtual_size() < size) window.cut(layer.virtual_size());
        layer.map(window.begin(), window.end(), scratch, [&](const qcow2::Extent& x) { apply(i, x); });
    }
    window.settle();
}
// The same, with entries that have the number of the layer plus one.
void fill(Window& window, const qcow2::Chain& chain, std::size_t point, qcow2::Scratch& scratch);

// Units of the disk at @point as a window has them.
Geometry geometry_at(const qcow2::Chain& chain, std::size_t point);

class Disk {
    // part_bytes of the disk at a multiple of that.
    struct Part {
        std::uint64_t begin = ~std::uint64_t{0};
        std::shared_ptr<const Window> window{};  // nothing: something in it is damaged, or cannot be read
    };

public:
    // Layers that nobody writes to. The chain must outlive it.
    Disk(const qcow2::Chain& chain, std::size_t point) : chain_(chain), point_(point), geometry_(geometry_at(chain, point)) {}

    // Of one thread.
    class Reader {
    public:
        explicit Reader(std::shared_ptr<Disk> disk) : disk_(std::move(disk)), plain_(disk_->chain_, disk_->point_) {}
        // @bytes at @offset, any alignment; past the end of the disk reads zeroes. Throws damaged() for a wrong table entry, or a
        // compressed stream, of what is read, failed() for an I/O error.
        void read(void* buffer, std::size_t bytes, std::uint64_t offset);

    private:
        void read(const Window& window, unsigned char* to, std::uint64_t begin, std::uint64_t end);

        std::shared_ptr<Disk> disk_;
        Part part_;  // of the last read
        qcow2::Reader plain_;
        qcow2::InflatedCluster inflated_;
    };

private:
    static constexpr std::uint64_t part_bytes = std::uint64_t{Window::cells} << index_cluster_bits;
    static constexpr std::uint64_t kept_bytes = 64u << 20;  // of memory

    Part part(std::uint64_t begin);  // any thread

    const qcow2::Chain& chain_;
    const std::size_t point_;
    const Geometry geometry_;
    std::mutex lock_;
    std::list<Part> parts_;  // the last used first
    qcow2::Scratch scratch_;
};

}  // namespace dmchain::chain
