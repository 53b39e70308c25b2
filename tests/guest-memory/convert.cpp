// SPDX-License-Identifier: GPL-2.0-or-later
// convert FORM STREAM FILE: makes another form of the memory in a migration stream, which QEMU 7.2 cannot write itself.
//   mapped-ram    as QEMU 9 does with the capability mapped-ram (docs/devel/migration/mapped-ram.rst). FILE may have
//                 something in it: the stream goes behind that
//   firecracker   the memory alone, as it is
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "guest/firecracker.hpp"
#include "guest/mapped_ram.hpp"
#include "guest/memory.hpp"
#include "guest/open.hpp"
#include "io/error.hpp"
#include "io/write_all.hpp"

namespace {

using namespace dmchain;

std::string be(std::uint64_t n, unsigned bytes) {
    std::string out;
    while (bytes--) out += static_cast<char>(n >> (8 * bytes));
    return out;
}
std::string counted(const std::string& text) { return be(text.size(), 1) + text; }

std::string bytes_of(const guest::Image& image, std::uint64_t begin, std::uint64_t end) {
    std::string out(end - begin, '\0');
    image.source.read(out.data(), out.size(), begin);
    return out;
}

void mapped_ram(const guest::Image& image, std::uint64_t begin, const guest::Put& put) {
    constexpr std::uint64_t alignment = 1u << 20;
    std::uint64_t at = begin;
    const auto next = [&](const std::string& text) {
        put(text.data(), text.size(), at);
        at += text.size();
    };
    // Up to the start of the section with the memory, all is as it was, but for the capability.
    next("QEVM" + be(3, 4) + be(7, 1) + be(image.machine.size(), 4) + image.machine);
    next(be(5, 1) + counted("configuration/capabilities") + be(1, 4) + be(1, 4) + counted("mapped-ram"));
    next(be(1, 1) + be(image.ram_section, 4) + counted("ram") + be(0, 4) + be(4, 4) + be(image.bytes() | 4, 8));
    std::vector<guest::RamBlock> blocks = image.blocks;
    for (guest::RamBlock& b : blocks) {
        next(counted(b.name) + be(b.bytes, 8));
        b.bitmap_at = at + 28;
        b.pages_at = (b.bitmap_at + guest::bitmap_bytes(b) + alignment - 1) / alignment * alignment;
        next(be(1, 4) + be(guest::page_bytes, 8) + be(b.bitmap_at, 8) + be(b.pages_at, 8));
        at = b.pages_at + b.bytes;
    }
    const std::string end = be(0x10, 8) + be(0x7e, 1) + be(image.ram_section, 4);
    next(end);
    for (const unsigned part : {2u, 3u}) next(be(part, 1) + be(image.ram_section, 4) + end);
    next(bytes_of(image, image.others.back().begin, image.others.back().end));
    guest::MappedRamWriter out(std::move(blocks), put);
    std::vector<unsigned char> page(guest::page_bytes);
    for (std::size_t b = 0; b < image.blocks.size(); b++)
        for (std::uint64_t p = 0; p < image.blocks[b].pages(); p++)
            out.page(b, p, image.read_page(b, p, page.data()) ? page.data() : nullptr);
    out.end_pages();
}

void firecracker(const guest::Image& image, int fd, const guest::Put& put) {
    const std::size_t block = guest::Memory::main_block(image);
    guest::FirecrackerWriter out(put, put);
    std::vector<unsigned char> page(guest::page_bytes);
    for (std::uint64_t p = 0; p < image.blocks[block].pages(); p++)
        if (image.read_page(block, p, page.data())) out.page(0, p, page.data());
    if (ftruncate(fd, static_cast<off_t>(image.blocks[block].bytes)) != 0) throw failed("cannot set the length");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    try {
        const guest::Image image = guest::read_image(guest::open_source(argv[2]));
        const int fd = open(argv[3], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        const off_t end = lseek(fd, 0, SEEK_END);
        if (end < 0) throw failed("cannot open the file");
        const guest::Put put = [fd](const void* data, std::size_t bytes, std::uint64_t at) {
            if (write_all(fd, data, bytes, at) < bytes) throw failed("cannot write");
        };
        if (std::strcmp(argv[1], "mapped-ram") == 0)
            mapped_ram(image, static_cast<std::uint64_t>(end), put);
        else
            firecracker(image, fd, put);
        return close(fd);
    } catch (const Error& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
