// SPDX-License-Identifier: GPL-2.0-or-later
// An image that has nothing but a backing file and a bitmap of blocks: so QEMU's programs tell what changed in the image below,
// which is not touched. For serve.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dmchain::qcow2 {

// Blocks of the disk, by bits.
class BlockBits {
public:
    // Of a disk of @bytes, in blocks of 1 << block_bits bytes.
    BlockBits(std::uint64_t bytes, unsigned block_bits) : bits_(((bytes >> block_bits) + 8) / 8), block_bits_(block_bits) {}

    // All blocks that [begin, end), bytes, lies in, at least in part; end > begin.
    void set(std::uint64_t begin, std::uint64_t end) {
        for (std::uint64_t i = begin >> block_bits_; i <= (end - 1) >> block_bits_; i++)
            bits_[i / 8] = static_cast<unsigned char>(bits_[i / 8] | 1u << i % 8);
    }
    unsigned block_bits() const { return block_bits_; }
    const std::vector<unsigned char>& bytes() const { return bits_; }

private:
    std::vector<unsigned char> bits_;
    unsigned block_bits_;
};

struct OverlayOptions {
    std::uint64_t size;          // of the virtual disk, bytes
    std::string backing_name;    // as it is to stand in the header
    std::string backing_format;  // qcow2 or raw
    std::string bitmap_name;
    const BlockBits* bitmap = nullptr;  // nullptr: it gets none
};

// Makes @path, which must not exist. It is not made durable.
void make_overlay(const std::string& path, const OverlayOptions& options);

}  // namespace dmchain::qcow2
