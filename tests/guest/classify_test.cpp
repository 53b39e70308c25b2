// SPDX-License-Identifier: GPL-2.0-or-later
// Guests that are not understood: all of their memory is critical, and the reason is told. Real guests: tests/guest-memory.
#include "guest/classify.hpp"

#include <doctest/doctest.h>

#include "support/folder.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::StreamMaker;

// Of a guest of 8 pages whose first one is @page.
PageMap map_of(std::string page) {
    test::Folder folder;
    page.resize(StreamMaker::page);
    StreamMaker s;
    s.header().start({{"pc.ram", 8 * StreamMaker::page}, {"pc.bios", StreamMaker::page}}).begin(true);
    s.data("pc.ram", 0, page);
    for (unsigned p = 1; p < 8; p++) s.zero("", p);
    s.zero("pc.bios", 0).end().devices();
    Candidates candidates;
    const Image image =
        read_image(Source(File(folder.write("stream", s.bytes))),
                   [&](std::size_t block, std::uint64_t p, const unsigned char* data) { candidates.look_at(block, p, data); });
    PageMap map = classify(image, candidates);
    for (std::size_t c = 0; c < classes; c++)
        CHECK(count(image, map)[c].pages == (Class(c) == Class::unknown ? 8 : Class(c) == Class::device ? 1 : 0));
    CHECK(count(image, map)[std::size_t(Class::unknown)].zero_pages == 7);
    CHECK(map.release == "");
    return map;
}

std::string note(const std::string& text) {
    std::string out("\x0b\0\0\0", 4);
    for (unsigned i = 0; i < 4; i++) out += static_cast<char>(text.size() >> (8 * i));
    return out + std::string("\0\0\0\0VMCOREINFO\0\0", 16).substr(0, 4) + std::string("VMCOREINFO\0\0", 12) + text;
}

}  // namespace

TEST_CASE("classify: a guest that is not understood is all critical, with the reason") {
    CHECK(is_critical(Class::unknown));
    CHECK(is_critical(Class::device));
    CHECK(map_of("").reason == "no Linux kernel was found in it (VMCOREINFO)");
    CHECK(map_of(note("OSRELEASE=6.1\n")).reason == "its VMCOREINFO has no SYMBOL(init_top_pgt)");
    CHECK(map_of(note("OSRELEASE=6.1\nSYMBOL(init_top_pgt)=ffffffff80001000\nNUMBER(phys_base)=x\n")).reason ==
          "its VMCOREINFO says of NUMBER(phys_base) \"x\", expected a number");
    const std::string root = "OSRELEASE=6.1\nSYMBOL(init_top_pgt)=ffffffff80001000\n";
    CHECK(map_of(note(root + "NUMBER(phys_base)=1048576\nNUMBER(pgtable_l5_enabled)=0\n")).reason ==
          "there is no memory at 0x101ff8");
    CHECK(map_of(note(root + "NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=1\nNUMBER(sme_mask)=2048\n")).reason ==
          "its memory is encrypted");
    // The root of its page tables is zero, and so is that of any processor.
    CHECK(map_of(note(root + "NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=1\n")).reason != "");
    // Longer than all of memory.
    std::string longer = note(root);
    longer[6] = 1;
    CHECK(map_of(longer).reason == "no Linux kernel was found in it (VMCOREINFO)");
}

}  // namespace dmchain::guest
