// SPDX-License-Identifier: GPL-2.0-or-later
// Migration streams: what is read of good ones, and that wrong ones are refused with a line that says where.
#include "guest/image.hpp"

#include <doctest/doctest.h>

#include <map>

#include "io/error.hpp"
#include "guest/stream.hpp"
#include "support/folder.hpp"
#include "support/image_content.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::content;
using test::Folder;
using test::refused;
using test::Refused;
using test::StreamMaker;

constexpr std::uint64_t page = StreamMaker::page;

Image read(const Folder& folder, const std::string& bytes, const Seen& seen = {}) {
    return read_image(Source(File(folder.write("stream", bytes))), seen);
}

}  // namespace

TEST_CASE("stream: blocks, pages and devices are found, and the last record of a page counts") {
    Folder folder;
    const StreamMaker made = StreamMaker::small();
    std::map<std::uint64_t, int> seen;
    const Image s = read(folder, made.bytes, [&](std::size_t block, std::uint64_t p, const unsigned char* data) {
        seen[block * 100 + p]++;
        CHECK(data[0] == data[page - 1]);
    });
    CHECK(s.machine == "pc-q35-7.2");
    CHECK(s.bytes() == 9 * page);
    CHECK(seen == std::map<std::uint64_t, int>{{0, 1}, {2, 1}, {3, 2}, {100, 1}});
    const std::string zero = StreamMaker::filled(0);
    CHECK(content(s) == std::map<std::string, std::string>{{"pc.ram", StreamMaker::filled('a') + zero + StreamMaker::filled('c') +
                                                                          StreamMaker::filled('x') + zero + zero + zero + zero},
                                                           {"pc.bios", StreamMaker::filled('b')}});
    CHECK(s.blocks[0].where[1] == RamBlock::zero);
    REQUIRE(s.others.size() == 2);
    CHECK(s.before_pages == 1);
    CHECK(s.others[0].begin == 0);
    CHECK(made.bytes.substr(s.others[0].end, 5) == std::string("\2\0\0\0\2", 5));
    CHECK(made.bytes.substr(s.others[1].begin, 13) == std::string("\4some devices"));
    CHECK(s.others[1].end == made.bytes.size());
    CHECK(s.processors->begin == s.others[1].begin);
}

TEST_CASE("stream: what is written again reads the same") {
    Folder folder;
    const StreamMaker made = StreamMaker::small();
    const Image s = read(folder, made.bytes);
    std::string again;
    StreamWriter out({"pc.ram", "pc.bios"}, s.ram_section, [&](const void* data, std::size_t n, std::uint64_t at) {
        REQUIRE(at == again.size());
        again.append(static_cast<const char*>(data), n);
    });
    test::write_again(s, out);
    Folder other;
    const Image t = read(other, again);
    CHECK(content(s) == content(t));
    CHECK(again.size() == made.bytes.size() - (page + 8) - (5 + 8 + 1 + 6 + 5));  // one record of page 3, and one section
    CHECK(again.substr(t.others[1].begin) == made.bytes.substr(s.others[1].begin));
}

TEST_CASE("stream: QEMU 10's command before the last section is kept there") {
    const StreamMaker made = StreamMaker::small(true);
    Folder folder, other;
    const Image s = read(folder, made.bytes);
    CHECK(content(s) == content(read(other, StreamMaker::small().bytes)));
    REQUIRE(s.others.size() == 3);
    CHECK(s.before_pages == 2);
    CHECK(made.bytes.substr(s.others[1].begin, s.others[1].end - s.others[1].begin) == StreamMaker().command(11).bytes);
    for (const auto& wrong : {StreamMaker().header().command(11), StreamMaker().header().start({{"a", page}}).command(4),
                              StreamMaker().header().start({{"a", page}}).command(11, "more")})
        CHECK(refused(wrong.bytes + StreamMaker::filled('a')).message.find("expected only 11 with none: migrate without") !=
              std::string::npos);
}

TEST_CASE("stream: the machine's number in the configuration is passed over") {
    const std::string uuid =
        "\5\x12"
        "configuration/uuid" +
        StreamMaker::be(1, 4) + std::string(16, 'u');
    std::string bytes = StreamMaker::small().bytes;
    bytes.insert(StreamMaker().header().bytes.size(), uuid);
    Folder folder, other;
    CHECK(content(read(folder, bytes)) == content(read(other, StreamMaker::small().bytes)));
}

TEST_CASE("stream: cut off anywhere, it is refused") {
    const std::string whole = StreamMaker::small().bytes;
    for (std::size_t n = 0; n<whole.size(); n += n> 200 && n + 300 < whole.size() ? 97 : 1) {
        CAPTURE(n);
        const Refused r = refused(whole.substr(0, n));
        CHECK(r.code == (n < 4 ? Exit::failed : Exit::damaged));
    }
    CHECK(refused(whole.substr(0, whole.size() - 1)).message ==
          fmt::format("was cut off: ends at byte {} without the description of its devices", whole.size() - 1));
}

TEST_CASE("stream: with any bit flipped, it is refused, or has the same blocks") {
    const StreamMaker made = StreamMaker::small();
    Folder folder;
    const Image good = read(folder, made.bytes);
    const std::uint64_t first_page = good.blocks[0].where[0];
    for (std::uint64_t at = 0; at < made.bytes.size(); at++) {
        // One byte in a page is as good as another.
        if (at > first_page && at % 512 > 40) continue;
        for (int bit = 0; bit < 8; bit++) {
            std::string bytes = made.bytes;
            bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
            CAPTURE(at);
            CAPTURE(bit);
            try {
                const Image s = read(folder, bytes);
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

    CHECK(refused("").message ==
          "is no memory of a guest: expected a migration stream of QEMU, a file of 'virsh save', a qcow2 image with a state that "
          "savevm "
          "stored, or an ELF core; memory that Firecracker wrote needs --firecracker");
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
    const std::string no_capability = StreamMaker().header().capabilities({"x-ignore-shared"}).bytes;
    CHECK(refused(no_capability).message ==
          "at byte 23 is said that the capability 'x-ignore-shared' is on, which is not known: migrate without it");
    CHECK(refused(StreamMaker().header().bytes + "\5\4name" + StreamMaker::be(1, 4)).message ==
          "at byte 23 is the addition 'name' to the configuration, which is not known");
    CHECK(refused(ram().bytes + "\5\4name" + StreamMaker::be(1, 4)).message ==
          "at byte 76 there is an addition to the configuration elsewhere, expected a part of a migration stream");
    CHECK(refused(ram().bytes + "\x42" + some).message ==
          "at byte 76 there is a part of kind 0x42, expected a part of a migration stream");
}

}  // namespace dmchain::guest
