// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a file with a memory image again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace dmchain::guest {

// Writes @bytes at byte @at of the file that is made.
using Put = std::function<void(const void* data, std::size_t bytes, std::uint64_t at)>;

// The calls come in this order: other bytes that were before the pages, begin_pages(), pages in any order, end_pages(), other
// bytes.
class ImageWriter {
public:
    virtual ~ImageWriter() = default;
    // @at: byte of the source where they were.
    virtual void other(const void* data, std::size_t bytes, std::uint64_t at) = 0;
    virtual void begin_pages() = 0;
    // @data: nullptr for a page of zeroes.
    virtual void page(std::size_t block, std::uint64_t page, const unsigned char* data) = 0;
    virtual void end_pages() = 0;
};

}  // namespace dmchain::guest
