// SPDX-License-Identifier: GPL-2.0-or-later
// The memory of a stopped machine in a file, whatever form the file has: which memory there is, where the content of each page
// lies, and which other bytes there are. Pages stay in the file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "guest/source.hpp"

namespace dmchain::guest {

inline constexpr std::uint64_t page_bytes = 4096;
// More than any machine has; bounds what is allocated for a file with holes.
inline constexpr std::uint64_t most_memory = std::uint64_t{1} << 42;

enum class Form : std::uint8_t {
    stream,       // QEMU's migration stream, also in a file of libvirt or in a qcow2 image
    mapped_ram,   // the same with a fixed place in the file for each page
    firecracker,  // memory alone, as it is
    core,         // an ELF core
};
// As in reports, e.g. "mapped-ram"; and back, nullopt if there is none of that name.
const char* name_of(Form form);
std::optional<Form> form_of(const std::string& name);

// Memory of the machine. Names are QEMU's.
struct RamBlock {
    std::string name;
    std::uint64_t bytes = 0;  // multiple of page_bytes
    // Of each page: absent, zero, or the offset of its content in the source.
    std::vector<std::uint64_t> where;
    // Of a mapped-ram file: byte of the file where the first page, and where the bitmap is.
    std::uint64_t pages_at = 0, bitmap_at = 0;

    static constexpr std::uint64_t absent = ~std::uint64_t{0};  // the file says nothing of it
    static constexpr std::uint64_t zero = absent - 1;
    static bool has_content(std::uint64_t place) { return place < zero; }
    std::uint64_t pages() const { return bytes / page_bytes; }
};

struct Range {
    std::uint64_t begin = 0, end = 0;  // bytes of the source
};

struct Image {
    explicit Image(Source from) : source(std::move(from)) {}

    Source source;
    Form form = Form::stream;
    std::string machine;  // as "pc-i440fx-7.2"; "" if the file does not say
    std::vector<RamBlock> blocks;
    std::vector<Range> others;         // what restoring needs besides pages, ascending
    std::size_t before_pages = 0;      // how many of these come before the pages
    std::optional<Range> processors;   // where the state of the processors is; nullopt: not in the file
    std::optional<std::uint64_t> low;  // bytes of memory below 4 GiB, if the file says
    std::uint32_t ram_section = 0;     // of a stream: number of the section with the pages

    std::uint64_t bytes() const;        // of all blocks
    std::uint64_t other_bytes() const;  // of all others
    // The content of a page. Returns whether there is any: if not, it reads zeroes.
    bool read_page(std::size_t block, std::uint64_t page, void* to) const;
};

// @seen(block, page, data) is called for each page with content; in a stream a page may be there more than once, and the last one
// counts. @progress: bytes of the source done.
using Seen = std::function<void(std::size_t block, std::uint64_t page, const unsigned char* data)>;
using Done = std::function<void(std::uint64_t)>;

// Reads all of it; what it is, is told by its content. Throws failed() for what is no memory image, or one with features that
// this does not know; damaged() for one that contradicts itself or was cut off. A file of libvirt must not be compressed
// (open.hpp).
Image read_image(Source source, const Seen& seen = {}, const Done& progress = {});

// For those who read a form: shows @seen all pages that have content. @look: those that turn out to be all zero become so, and
// are not shown.
void see_pages(Image& image, bool look, const Seen& seen, const Done& progress);

}  // namespace dmchain::guest
