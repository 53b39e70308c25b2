// SPDX-License-Identifier: GPL-2.0-or-later
// Reads the virtual disk of a chain in user space: plainly, from the top down, layer by layer. For
// looking at what is on the disk (inspect), for tests and for fuzzing; the fast way is the index.
#pragma once

#include <cstdint>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::qcow2 {

// For one thread. The chain must outlive it.
class Reader {
public:
    explicit Reader(const Chain& chain) : Reader(chain, chain.layers().size() - 1) {}
    // The disk as it was when layer number @top was on top.
    Reader(const Chain& chain, std::size_t top) : chain_(chain), top_(top) {}

    // @bytes at @offset of the virtual disk, any alignment; past its end reads zeroes. Throws damaged() for a
    // wrong table entry or compressed stream.
    void read(void* buffer, std::size_t bytes, std::uint64_t offset);

private:
    struct Range {
        std::uint64_t begin;
        std::uint64_t end;
    };
    void read_layer(std::size_t number, unsigned char* buffer, const Range& want, std::vector<Range>& below);
    void copy(std::size_t number, const Extent& extent, unsigned char* to);
    const unsigned char* inflated(std::size_t number, const Extent& extent);

    const Chain& chain_;
    const std::size_t top_;
    Scratch scratch_;
    std::vector<unsigned char> stream_;
    std::vector<unsigned char> cluster_;  // the cluster inflated last: of this layer, from this place
    std::size_t cluster_layer_ = ~std::size_t{0};
    std::uint64_t cluster_host_ = 0;
};

}  // namespace dmchain::qcow2
