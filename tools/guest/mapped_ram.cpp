// SPDX-License-Identifier: GPL-2.0-or-later
// See mapped_ram.hpp. Numbers are big-endian; a bitmap is an array of the host's words, little-endian on x86.
#include "guest/mapped_ram.hpp"

namespace dmchain::guest {

namespace {

constexpr std::uint32_t header_version = 1;
constexpr std::uint64_t word_bits = 64;

}  // namespace

std::uint64_t bitmap_bytes(const RamBlock& block) { return (block.pages() + word_bits - 1) / word_bits * (word_bits / 8); }

void read_mapped_block(const Source& source, Cursor& in, RamBlock& block) {
    const std::string name = escaped(source.name()), of = in_quotes(block.name);
    const std::uint64_t at = in.at(), version = in.number(4), page = in.number(8);
    block.bitmap_at = in.number(8);
    block.pages_at = in.number(8);
    if (version != header_version || page != page_bytes)
        throw failed(
            "{}: at byte {} is the memory of {} in version {} of mapped-ram, with pages of {} bytes, expected version {} and {}",
            name, at, of, version, page, header_version, page_bytes);
    const std::uint64_t bitmap = bitmap_bytes(block), size = source.size();
    if (block.bitmap_at < in.at() || block.bitmap_at > size || block.pages_at % page_bytes || block.pages_at > size ||
        block.pages_at < block.bitmap_at || block.pages_at - block.bitmap_at < bitmap)
        throw damaged(
            "{}: at byte {} the bitmap of {} is said to be at {:#x} and its pages at {:#x}, expected {} bytes of bitmap behind "
            "that, "
            "then the pages, at a multiple of {}",
            name, at, of, block.bitmap_at, block.pages_at, bitmap, page_bytes);
    if (block.bytes > size - block.pages_at)
        throw damaged("{}: was cut off: has {} bytes, expected {} bytes of {} at {:#x}", name, size, block.bytes, of,
                      block.pages_at);
    std::vector<unsigned char> bits(bitmap);
    source.read(bits.data(), bits.size(), block.bitmap_at);
    const auto is_set = [&](std::uint64_t p) { return bits[p / 8] >> (p % 8) & 1; };
    for (std::uint64_t p = block.pages(); p < bitmap * 8; p++)
        if (is_set(p))
            throw damaged("{}: the bitmap at {:#x} has page {} of {}, expected less than {}", name, block.bitmap_at, p, of,
                          block.pages());
    block.where.resize(block.pages());
    for (std::uint64_t p = 0; p < block.pages(); p++)
        block.where[p] = is_set(p) ? block.pages_at + p * page_bytes : RamBlock::zero;
    in.seek(block.pages_at + block.bytes);
}

MappedRamWriter::MappedRamWriter(std::vector<RamBlock> blocks, Put put) : blocks_(std::move(blocks)), put_(std::move(put)) {
    for (const RamBlock& b : blocks_) bitmaps_.emplace_back(bitmap_bytes(b));
}

void MappedRamWriter::page(std::size_t block, std::uint64_t page, const unsigned char* data) {
    if (!data) return;
    bitmaps_[block][page / 8] = static_cast<unsigned char>(bitmaps_[block][page / 8] | 1 << (page % 8));
    put_(data, page_bytes, blocks_[block].pages_at + page * page_bytes);
}

void MappedRamWriter::end_pages() {
    for (std::size_t b = 0; b < blocks_.size(); b++) put_(bitmaps_[b].data(), bitmaps_[b].size(), blocks_[b].bitmap_at);
}

}  // namespace dmchain::guest
