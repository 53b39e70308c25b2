// SPDX-License-Identifier: GPL-2.0-or-later
// Memory in QEMU's mapped-ram files: behind the name and size of each block a header, then a bitmap of the pages that are there,
// then a place for all pages of the block. Offsets count from the start of the file. Source: QEMU's
// docs/devel/migration/mapped-ram.rst, migration/ram.c.
#pragma once

#include <vector>

#include "guest/cursor.hpp"
#include "guest/image.hpp"
#include "guest/writer.hpp"

namespace dmchain::guest {

// Bytes of the bitmap of a block.
std::uint64_t bitmap_bytes(const RamBlock& block);

// The header at @in, and the bitmap: what it says of @block, whose name and size are known. Goes on behind the place for the
// pages.
void read_mapped_block(const Source& source, Cursor& in, RamBlock& block);

class MappedRamWriter : public ImageWriter {
public:
    // @blocks: as read, but for `where`, which is not used.
    MappedRamWriter(std::vector<RamBlock> blocks, Put put);

    void other(const void* data, std::size_t bytes, std::uint64_t at) override { put_(data, bytes, at); }
    void begin_pages() override {}
    void page(std::size_t block, std::uint64_t page, const unsigned char* data) override;
    void end_pages() override;

private:
    std::vector<RamBlock> blocks_;
    std::vector<std::vector<unsigned char>> bitmaps_;
    Put put_;
};

}  // namespace dmchain::guest
