// SPDX-License-Identifier: GPL-2.0-or-later
// QEMU's migration stream in a file: which memory it has, where in the file each page lies, and what is before and after the
// pages. Pages stay in the file. Source: QEMU's docs/devel/migration/main.rst, migration/ram.c, migration/savevm.c.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/file.hpp"

namespace dmchain::guest {

inline constexpr std::uint64_t page_bytes = 4096;

// Memory of the machine, as QEMU names it.
struct RamBlock {
    std::string name;
    std::uint64_t bytes = 0;  // multiple of page_bytes
    // Of each page: absent, zero, or the offset of its content in the file.
    std::vector<std::uint64_t> where;

    static constexpr std::uint64_t absent = 0;  // the stream says nothing of it
    static constexpr std::uint64_t zero = 1;
    std::uint64_t pages() const { return bytes / page_bytes; }
};

class Stream {
public:
    // @seen(block, page, data) is called for each page record with content, in the order of the file; a page may be there more
    // than once, and the last one counts. @progress: bytes of the file done.
    using Seen = std::function<void(std::size_t block, std::uint64_t page, const unsigned char* data)>;
    // Reads all of it. Throws failed() for what is no such stream, or one with features that this does not know; damaged() for
    // one that contradicts itself or was cut off.
    explicit Stream(File file, const Seen& seen = {}, const std::function<void(std::uint64_t)>& progress = {});

    const File& file() const { return file_; }
    const std::string& machine() const { return machine_; }  // as "pc-i440fx-7.2"; "" if the stream does not say
    const std::vector<RamBlock>& blocks() const { return blocks_; }
    std::uint64_t bytes() const;  // of all blocks

    // The content of a page. Returns whether there is any: if not, it reads zeroes.
    bool read_page(std::size_t block, std::uint64_t page, void* to) const;

    // [0, head_bytes()) is what comes before the pages, [tail_offset(), file().size()) what comes after them: the devices.
    std::uint64_t head_bytes() const { return head_bytes_; }
    std::uint64_t tail_offset() const { return tail_offset_; }
    std::uint32_t ram_section() const { return ram_section_; }  // number of the section with the pages

private:
    class Parser;

    File file_;
    std::string machine_;
    std::vector<RamBlock> blocks_;
    std::uint64_t head_bytes_ = 0;
    std::uint64_t tail_offset_ = 0;
    std::uint32_t ram_section_ = 0;
};

// Writes the pages of a stream again: a section that ends the memory, between a head and a tail.
class PageWriter {
public:
    using Put = std::function<void(const void* data, std::size_t bytes)>;
    explicit PageWriter(Put put) : put_(std::move(put)) {}

    void begin(std::uint32_t section);
    // @data: nullptr for a page of zeroes. Fewest bytes are written if the pages of a block follow each other.
    void page(const std::string& block, std::uint64_t page, const unsigned char* data);
    void end(std::uint32_t section);

private:
    Put put_;
    std::string block_;
};

}  // namespace dmchain::guest
