// SPDX-License-Identifier: GPL-2.0-or-later
// Migration streams: what is read of good ones, and that wrong ones are refused with a line that says where.
#include "guest/stream.hpp"

#include <doctest/doctest.h>

#include <map>

#include "io/error.hpp"
#include "support/folder.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::Folder;
using test::StreamMaker;

constexpr std::uint64_t page = StreamMaker::page;

// Content of all pages, by block.
std::map<std::string, std::string> content(const Stream& s) {
    std::map<std::string, std::string> out;
    for (std::size_t b = 0; b < s.blocks().size(); b++) {
        std::string& all = out[s.blocks()[b].name];
        std::string one(page, '?');
        for (std::uint64_t p = 0; p < s.blocks()[b].pages(); p++) {
            s.read_page(b, p, one.data());
            all += one;
        }
    }
    return out;
}

struct Refused {
    Exit code;
    std::string message;  // without the file's name
};
Refused refused(const std::string& bytes) {
    Folder folder;
    const std::string path = folder.write("stream", bytes);
    try {
        Stream s{File(path)};
    } catch (const Error& e) {
        REQUIRE(std::string(e.what()).starts_with(path + ": "));
        return {e.code(), e.what() + path.size() + 2};
    }
    return {Exit::done, ""};
}

}  // namespace

TEST_CASE("stream: blocks, pages and devices are found, and the last record of a page counts") {
    Folder folder;
    const StreamMaker made = StreamMaker::small();
    std::map<std::uint64_t, int> seen;
    const Stream s(File(folder.write("stream", made.bytes)), [&](std::size_t block, std::uint64_t p, const unsigned char* data) {
        seen[block * 100 + p]++;
        CHECK(data[0] == data[page - 1]);
    });
    CHECK(s.machine() == "pc-q35-7.2");
    CHECK(s.bytes() == 9 * page);
    CHECK(seen == std::map<std::uint64_t, int>{{0, 1}, {2, 1}, {3, 2}, {100, 1}});
    const std::string zero = StreamMaker::filled(0);
    CHECK(content(s) == std::map<std::string, std::string>{{"pc.ram", StreamMaker::filled('a') + zero + StreamMaker::filled('c') +
                                                                          StreamMaker::filled('x') + zero + zero + zero + zero},
                                                           {"pc.bios", StreamMaker::filled('b')}});
    CHECK(s.blocks()[0].where[1] == RamBlock::zero);
    CHECK(made.bytes.substr(s.tail_offset(), 13) == std::string("\4some devices"));
    CHECK(made.bytes.substr(s.head_bytes(), 5) == std::string("\2\0\0\0\2", 5));
}

TEST_CASE("stream: what is written again reads the same") {
    Folder folder;
    const StreamMaker made = StreamMaker::small();
    const Stream s(File(folder.write("stream", made.bytes)));
    std::string again = made.bytes.substr(0, s.head_bytes());
    PageWriter out([&](const void* data, std::size_t n) { again.append(static_cast<const char*>(data), n); });
    out.begin(s.ram_section());
    for (std::size_t b = 0; b < s.blocks().size(); b++)
        for (std::uint64_t p = 0; p < s.blocks()[b].pages(); p++) {
            std::vector<unsigned char> one(page);
            const bool there = s.read_page(b, p, one.data());
            out.page(s.blocks()[b].name, p, there ? one.data() : nullptr);
        }
    out.end(s.ram_section());
    again += made.bytes.substr(s.tail_offset());
    const Stream t(File(folder.write("again", again)));
    CHECK(content(s) == content(t));
    CHECK(again.size() == made.bytes.size() - (page + 8) - (5 + 8 + 1 + 6 + 5));  // one record of page 3, and one section
    CHECK(again.substr(t.tail_offset()) == made.bytes.substr(s.tail_offset()));
}

TEST_CASE("stream: cut off anywhere, it is refused") {
    const std::string whole = StreamMaker::small().bytes;
    Folder folder;
    for (std::size_t n = 0; n<whole.size(); n += n> 200 && n + 300 < whole.size() ? 97 : 1) {
        CAPTURE(n);
        const Refused r = refused(whole.substr(0, n));
        CHECK(r.code == (n < 8 ? Exit::failed : Exit::damaged));
    }
    CHECK(refused(whole.substr(0, whole.size() - 1)).message ==
          fmt::format("was cut off: ends at byte {} without the description of its devices", whole.size() - 1));
}

TEST_CASE("stream: with any bit flipped, it is refused, or has the same blocks") {
    const StreamMaker made = StreamMaker::small();
    Folder folder;
    const Stream good(File(folder.write("good", made.bytes)));
    const std::uint64_t first_page = good.blocks()[0].where[0];
    for (std::uint64_t at = 0; at < made.bytes.size(); at++) {
        // One byte in a page is as good as another.
        if (at > first_page && at % 512 > 40) continue;
        for (int bit = 0; bit < 8; bit++) {
            std::string bytes = made.bytes;
            bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
            CAPTURE(at);
            CAPTURE(bit);
            try {
                const Stream s(File(folder.write("stream", bytes)));
                CHECK(s.bytes() == good.bytes());
                content(s);
            } catch (const Error& e) {
                CHECK((e.code() == Exit::failed || e.code() == Exit::damaged));
            }
        }
    }
}

TEST_CASE("stream: what is refused, and the line") {
    const auto ram = [] { return StreamMaker().header().start({{"pc.ram", 8 * page}}); };
    // So that the file is long enough for the memory that it says it has.
    const std::string some = StreamMaker::filled('a');

    CHECK(refused("").message == "is no migration stream of QEMU: does not begin with \"QEVM\"");
    CHECK(refused("QEVM" + StreamMaker::be(2, 4)).message == "has version 2 of the migration stream, expected 3");
    CHECK(refused(StreamMaker().header(std::string(300, 'x')).bytes).message ==
          "at byte 9 the name of the machine has 300 bytes, expected at most 255");
    CHECK(refused(StreamMaker().header().start({{"pc.ram", page}}, "dirty-bitmap").bytes).message ==
          "at byte 23 begins the section 'dirty-bitmap', expected the memory of the machine alone: migrate without other "
          "capabilities (block, dirty-bitmaps)");
    CHECK(refused(StreamMaker().header().start({{"pc.ram", 1ull << 40}}).bytes).code == Exit::damaged);
    CHECK(refused(StreamMaker().header().start({}).begin().bytes + some).message ==
          "at byte 40 is the size of the memory, 0 bytes, expected more");
    CHECK(refused(StreamMaker().header().start({{"a", page}, {"a", page}}).begin().bytes + some).message ==
          "at byte 58 is the block of memory 'a' of 4096 bytes, expected a new name and whole pages, at most 4096 bytes");
    CHECK(refused(StreamMaker().header().devices().bytes)
              .message.starts_with("at byte 23 the devices begin before the memory is complete"));
    for (const std::uint64_t flags : {0x40u, 0x100u, 0x200u, 0x400u, 0x800u, 0x0au, 0x00u, 0x01u}) {
        const Refused r = refused(ram().begin().bytes + StreamMaker::be(flags, 8) + some);
        CHECK(r.code == Exit::failed);
        CHECK(r.message.starts_with(fmt::format("at byte 81 is a record with the flags {:#x}, expected 0x2, ", flags)));
    }
    CHECK(refused(ram().begin().data("", 0, some).bytes).message ==
          "at byte 81 is a page of the block before, expected the name of a block first");
    CHECK(refused(ram().begin().data("vga", 0, some).bytes).message ==
          "at byte 81 is a page of 'vga', expected one of the blocks that the stream begins with");
    CHECK(refused(ram().begin().data("pc.ram", 8, some).bytes).message ==
          "at byte 81 is the page at 0x8000 of 'pc.ram', expected less than 0x8000");
    CHECK(refused(ram().begin().zero("pc.ram", 1, 'z').bytes + some).message ==
          "at byte 81 is a page filled with 0x7a, expected 0");
    CHECK(refused(ram().begin(true).data("pc.ram", 1, some).end().begin().bytes).message ==
          "at byte 4205 more than the memory was sent in parts, expected the devices: migrate without other capabilities (block, "
          "dirty-bitmaps)");
    CHECK(refused(ram().begin(true).data("pc.ram", 1, some).end().bytes).message ==
          "was cut off: ends at byte 4205, after the memory, expected the devices of the machine");
    CHECK(refused(ram().bytes + StreamMaker::be(3, 1) + StreamMaker::be(7, 4) + some).message ==
          "at byte 76 there is section 7, which did not begin, expected a part of a migration stream");
    CHECK(refused(ram().bytes + "\x42" + some).message ==
          "at byte 76 there is a part of kind 0x42, expected a part of a migration stream");
}

}  // namespace dmchain::guest
