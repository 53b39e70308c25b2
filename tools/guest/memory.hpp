// SPDX-License-Identifier: GPL-2.0-or-later
// Guest-physical memory, as the guest's kernel addresses it, over the blocks of an image.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "guest/image.hpp"

namespace dmchain::guest {

// Something in the guest is not as its kernel says: nothing can be told of its pages. The text is part of a line.
class NotUnderstood : public std::runtime_error {
public:
    explicit NotUnderstood(const std::string& what) : std::runtime_error(what) {}
};

class Memory {
public:
    // @low: bytes of memory below 4 GiB; the rest of it is above.
    Memory(const Image& image, std::size_t block, std::uint64_t low) : image_(image), block_(block), low_(low) {}

    // The block that is the memory that the guest's kernel manages: the largest one.
    static std::size_t main_block(const Image& image);
    // What the low part may be, the most likely first. Source: QEMU's hw/i386/pc_piix.c, pc_q35.c, microvm.c.
    static std::vector<std::uint64_t> low_candidates(const Image& image, std::size_t block);

    std::size_t block() const { return block_; }
    std::uint64_t end() const;  // physical, of all
    // Of the page number @page of the block: its page frame number, and back; nullopt: no memory there.
    std::uint64_t frame(std::uint64_t page) const { return page < low_ / page_bytes ? page : page + (high - low_) / page_bytes; }
    std::optional<std::uint64_t> page_of(std::uint64_t frame) const;

    // Throws NotUnderstood if there is no memory.
    void read(void* to, std::size_t bytes, std::uint64_t physical) const;

private:
    static constexpr std::uint64_t high = std::uint64_t{1} << 32;
    std::uint64_t pages() const { return image_.blocks[block_].pages(); }

    const Image& image_;
    std::size_t block_;
    std::uint64_t low_;
};

}  // namespace dmchain::guest
