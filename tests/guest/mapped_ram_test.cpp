// SPDX-License-Identifier: GPL-2.0-or-later
// Mapped-ram files: they read as the stream of the same memory does, are written again as they were, and wrong ones are refused.
#include "guest/mapped_ram.hpp"

#include <doctest/doctest.h>

#include "support/image_content.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::content;
using test::Folder;
using test::refused;
using test::StreamMaker;

// So that tests with many files are quick.
constexpr std::uint64_t small_alignment = 8192;

Image read(const Folder& folder, const std::string& bytes, const Seen& seen = {}) {
    return read_image(Source(File(folder.write("mapped", bytes))), seen);
}

std::string with(const std::string& bytes, std::uint64_t at, std::uint64_t value, unsigned n) {
    std::string out = bytes;
    return out.replace(at, n, StreamMaker::be(value, n));
}

}  // namespace

TEST_CASE("mapped-ram: reads as the stream of the same memory") {
    const Folder folder;
    const auto of_stream = content(read(folder, StreamMaker::small().bytes));
    for (const std::string before : {"", "libvirt's header"}) {
        const std::string header = before.empty() ? before : StreamMaker::libvirt_header(6);
        const std::string bytes = StreamMaker::small_mapped(header).bytes;
        std::map<std::uint64_t, char> seen;
        const Image s = read(folder, bytes, [&](std::size_t block, std::uint64_t p, const unsigned char* data) {
            seen[block * 100 + p] = static_cast<char>(data[17]);
        });
        CHECK(s.form == Form::mapped_ram);
        CHECK(s.machine == "pc-q35-7.2");
        CHECK(content(s) == of_stream);
        CHECK(seen == std::map<std::uint64_t, char>{{0, 'a'}, {2, 'c'}, {3, 'x'}, {100, 'b'}});
        CHECK(s.blocks[0].pages_at == 1u << 20);
        CHECK(s.blocks[0].where[1] == RamBlock::zero);
        REQUIRE(s.others.size() == 3);
        CHECK(s.before_pages == 2);
        CHECK(bytes.substr(s.others[1].end - 28, 4) == StreamMaker::be(1, 4));
        CHECK(bytes.substr(s.processors->begin, 13) == std::string("\4some devices"));

        std::string again;
        MappedRamWriter out(s.blocks, test::put_into(again));
        test::write_again(s, out);
        CHECK(again == bytes);
    }
}

TEST_CASE("mapped-ram: pages that are left out are not in the bitmap") {
    const Folder folder;
    const Image s = read(folder, StreamMaker::small_mapped().bytes);
    std::string again;
    MappedRamWriter out(s.blocks, test::put_into(again));
    out.page(0, 2, nullptr);
    out.page(0, 7, reinterpret_cast<const unsigned char*>(StreamMaker::filled('z').c_str()));
    out.end_pages();
    CHECK(again[s.blocks[0].bitmap_at] == '\x80');
    CHECK(again[s.blocks[0].bitmap_at + 1] == 0);
    CHECK(again.substr(s.blocks[0].pages_at + 7 * page_bytes, page_bytes) == StreamMaker::filled('z'));
}

TEST_CASE("mapped-ram: cut off, or with any bit of what is no page flipped, it is refused, or has the same blocks") {
    const std::string bytes = StreamMaker::small_mapped("", small_alignment).bytes;
    const Folder folder;
    const Image good = read(folder, bytes);
    for (std::size_t n = 4; n<bytes.size(); n += n> 300 && n + 300 < bytes.size() ? 997 : 1) {
        CAPTURE(n);
        CHECK(refused(bytes.substr(0, n)).code == Exit::damaged);
    }
    for (const Range& r : good.others)
        for (std::uint64_t at = r.begin; at < std::min<std::uint64_t>(r.end + 8, bytes.size()); at++)
            for (int bit = 0; bit < 8; bit++) {
                std::string wrong = bytes;
                wrong[at] = static_cast<char>(wrong[at] ^ 1 << bit);
                CAPTURE(at);
                CAPTURE(bit);
                try {
                    const Image s = read(folder, wrong);
                    CHECK(s.bytes() == good.bytes());
                    content(s);
                } catch (const Error& e) {
                    CHECK((e.code() == Exit::failed || e.code() == Exit::damaged));
                }
            }
}

TEST_CASE("mapped-ram: what is refused, and the line") {
    const std::string bytes = StreamMaker::small_mapped().bytes;
    const Folder folder;
    const std::uint64_t header = read(folder, bytes).blocks[0].bitmap_at - 28;
    CHECK(refused(with(bytes, header, 2, 4)).message ==
          fmt::format("at byte {} is the memory of 'pc.ram' in version 2 of mapped-ram, with pages of 4096 bytes, expected "
                      "version 1 and 4096",
                      header));
    CHECK(refused(with(bytes, header + 4, 16384, 8)).code == Exit::failed);
    const auto places = [&](std::uint64_t bitmap, std::uint64_t pages) {
        return refused(with(with(bytes, header + 12, bitmap, 8), header + 20, pages, 8));
    };
    const std::uint64_t bitmap = header + 28, pages = 1u << 20;
    CHECK(places(bitmap, pages).message == "");
    CHECK(
        places(0, pages).message ==
        fmt::format(
            "at byte {} the bitmap of 'pc.ram' is said to be at 0x0 and its pages at 0x100000, expected 8 bytes of bitmap behind "
            "that, then the pages, at a multiple of 4096",
            header));
    for (const std::uint64_t wrong : {bitmap - 1, pages - 7, pages, ~std::uint64_t{0}, std::uint64_t{1} << 63})
        CHECK(places(wrong, pages).code == Exit::damaged);
    for (const std::uint64_t wrong : {std::uint64_t{0}, pages + 1, bytes.size() / 4096 * 4096, ~std::uint64_t{4095}})
        CHECK(places(bitmap, wrong).code == Exit::damaged);
    std::string more = bytes;
    more[bitmap + 1] = 1;
    CHECK(refused(more).message == fmt::format("the bitmap at {:#x} has page 8 of 'pc.ram', expected less than 8", bitmap));
    // Pages between the blocks, as in a stream.
    StreamMaker s;
    s.header().capabilities({"mapped-ram"}).start_mapped({{"pc.ram", {StreamMaker::filled('a')}}}).begin(true).zero("pc.ram", 0);
    CHECK(refused(s.end().devices().bytes).message.find("is a record with the flags 0x2") != std::string::npos);
}

}  // namespace dmchain::guest
