// SPDX-License-Identifier: GPL-2.0-or-later
// Reads the virtual disk of a chain in user space: plainly, from the top down, layer by layer. For
// looking at what is on the disk (inspect), for tests and for fuzzing; the fast way is an index (chain/disk.hpp).
#pragma once

#include <cstdint>
#include <vector>

#include "qcow2/chain.hpp"
#include "qcow2/inflated.hpp"

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

    const Chain& chain_;
    const std::size_t top_;
    Scratch scratch_;
    InflatedCluster inflated_;
};

}  // namespace dmchain::qcow2
