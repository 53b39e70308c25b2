// SPDX-License-Identifier: GPL-2.0-or-later
// ELF cores: which memory is where, and what is refused.
#include "guest/core.hpp"

#include <doctest/doctest.h>
#include <elf.h>

#include <cstring>

#include "support/core_maker.hpp"
#include "support/image_content.hpp"

namespace dmchain::guest {
namespace {

using test::CoreMaker;
using test::Folder;
using test::refused;

constexpr std::uint64_t high = std::uint64_t{1} << 32;

Image read(const std::string& bytes, const Seen& seen = {}) {
    const Folder folder;
    return read_image(Source(File(folder.write("core", bytes))), seen);
}

}  // namespace

TEST_CASE("core: memory is one block, from 0 on and from 4 GiB on; the rest are blocks of their own") {
    CoreMaker c;
    c.note("CORE: a processor").memory(0, 0xa0, 'a').memory(0xc0000, 0x40, 'b').memory(0x100000, 3, 'c');
    c.memory(0xfffc0000, 1, 'f').memory(high, 2, 'h').memory(0x500000000, 1, 'v').memory(0x103000, 1, '\0');
    std::uint64_t seen = 0;
    const Image image = read(c.bytes(), [&](std::size_t, std::uint64_t, const unsigned char*) { seen++; });
    CHECK(image.form == Form::core);
    REQUIRE(image.blocks.size() == 3);
    CHECK(image.blocks[0].bytes == 0x104000 + 2 * page_bytes);
    CHECK(*image.low == 0x104000);
    CHECK(image.blocks[1].name == "0xfffc0000");
    CHECK(image.blocks[2].name == "0x500000000");
    CHECK(seen == 0xa0 + 0x40 + 3 + 1 + 2 + 1);
    const auto first_byte = [&](std::uint64_t page) {
        std::string one(page_bytes, '?');
        image.read_page(0, page, one.data());
        return one[0];
    };
    CHECK(first_byte(0) == 'a');
    CHECK(image.blocks[0].where[0xa0] == RamBlock::absent);
    CHECK(image.blocks[0].where[0xbf] == RamBlock::absent);
    CHECK(first_byte(0xc0) == 'b');
    CHECK(image.blocks[0].where[0x103] == RamBlock::zero);
    CHECK(first_byte(0x105) == 'h');
    CHECK(c.bytes().substr(image.processors->begin, 17) == "CORE: a processor");
}

TEST_CASE("core: of memory up to 4 GiB and past it the addresses are right") {
    CoreMaker c;
    c.memory(0, 1, 'a').memory(high, 1, 'b');
    const Image image = read(c.bytes());
    CHECK(image.blocks.size() == 1);
    CHECK(*image.low == page_bytes);
    CHECK(!image.processors);
    // None at 0: what there is, is not counted through.
    CHECK(read(CoreMaker().memory(high, 2, 'b').bytes()).blocks[0].name == "0x100000000");
}

TEST_CASE("core: what is refused, and the line") {
    const std::string good = CoreMaker().memory(0, 2, 'a').memory(0x2000, 1, 'b').bytes();
    CHECK(refused(good).message == "");
    for (std::size_t n = 8; n < good.size(); n += 100) CHECK(refused(good.substr(0, n)).code == Exit::damaged);
    CHECK(refused("KDUMP   " + std::string(100, '\0')).message ==
          "is a compressed dump, which is not read: make one in the format elf (virsh dump --memory-only --format elf)");
    CHECK(refused(CoreMaker().memory(0, 2, 'a').memory(page_bytes, 1, 'b').bytes())
              .message.starts_with("has memory at 0x1000 twice, at byte "));
    CHECK(refused(CoreMaker().memory(100, 1, 'a').bytes()).message.find("are the memory at 0x64, expected whole pages") !=
          std::string::npos);
    CHECK(refused(CoreMaker().bytes()).message == "has 0 segments, expected 1 to 4096");
    CHECK(refused(CoreMaker().note("n").bytes()).message == "has no memory in it");
    const auto with = [&](std::size_t at, std::uint64_t value, std::size_t n) {
        std::string bytes = good;
        std::memcpy(&bytes[at], &value, n);
        return refused(bytes);
    };
    CHECK(with(offsetof(Elf64_Ehdr, e_machine), EM_386, 2).message ==
          "is an ELF file of class 2, order 1, type 4, machine 3, expected a core of x86-64");
    CHECK(with(offsetof(Elf64_Ehdr, e_type), ET_EXEC, 2).code == Exit::failed);
    CHECK(with(offsetof(Elf64_Ehdr, e_phentsize), 1, 2).code == Exit::failed);
    CHECK(with(offsetof(Elf64_Ehdr, e_phnum), 5000, 2).message == "has 5000 segments, expected 1 to 4096");
    CHECK(with(offsetof(Elf64_Ehdr, e_phnum), PN_XNUM, 2).code == Exit::damaged);
    CHECK(with(offsetof(Elf64_Ehdr, e_phoff), ~std::uint64_t{0}, 8).code == Exit::damaged);
    const std::size_t first = sizeof(Elf64_Ehdr);
    CHECK(with(first + offsetof(Elf64_Phdr, p_offset), ~std::uint64_t{0}, 8).code == Exit::damaged);
    CHECK(with(first + offsetof(Elf64_Phdr, p_filesz), std::uint64_t{1} << 63, 8).code == Exit::damaged);
    CHECK(with(first + offsetof(Elf64_Phdr, p_paddr), ~std::uint64_t{4095}, 8).code == Exit::damaged);
    for (std::size_t at = 0; at < first + 2 * sizeof(Elf64_Phdr); at++)
        for (int bit = 0; bit < 8; bit++) {
            std::string bytes = good;
            bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
            CAPTURE(at);
            CHECK(refused(bytes).message.find("without the name") == std::string::npos);
        }
}

}  // namespace dmchain::guest
