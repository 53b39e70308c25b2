// SPDX-License-Identifier: GPL-2.0-or-later
// Image::map(): what it calls the sink with: joined, clipped, in order, from any part of the disk and
// from many threads.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>
#include <thread>
#include <vector>

#include "qcow2/chain.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using qcow2::Chain;
using qcow2::Extent;
using qcow2::Kind;
using qcow2::Scratch;

std::string text(const Extent& e) {
    switch (e.kind) {
    case Kind::zero: return fmt::format("{:#x}+{:#x} zero; ", e.guest, e.bytes);
    case Kind::data: return fmt::format("{:#x}+{:#x} at {:#x}; ", e.guest, e.bytes, e.host);
    case Kind::compressed: return fmt::format("{:#x}+{:#x} compressed {:#x}+{:#x}; ", e.guest, e.bytes, e.host, e.host_bytes);
    }
    return "?";
}

std::string mapped(const Chain& chain, std::uint64_t begin, std::uint64_t end) {
    Scratch scratch;
    std::string all;
    chain.top().map(begin, end, scratch, [&](const Extent& e) { all += text(e); });
    return all;
}

Chain open(const Folder& folder, const std::string& bytes) {
    folder.write("i.qcow2", bytes);
    return {folder / "i.qcow2", {}};
}

}  // namespace

TEST_CASE("map: neighbours are joined, compressed clusters come one by one") {
    Folder folder;
    const std::string all =
        "0x0+0x2000 at 0x5000; 0x2000+0x1000 zero; 0x4000+0x1000 compressed 0x8000+0x200; 0x5000+0x1000 at 0x7000; ";
    Chain chain = open(folder, Maker().bytes);
    CHECK(mapped(chain, 0, ~std::uint64_t{511}) == all);
    CHECK(mapped(chain, 0, 0) == "");
    CHECK(mapped(chain, 0x6000, 0x10000) == "");
    CHECK(mapped(chain, 0x10000, 0x20000) == "");
    CHECK(mapped(chain, 0xe00, 0x1200) == "0xe00+0x400 at 0x5e00; ");
    CHECK(mapped(chain, 0x2200, 0x4200) == "0x2200+0xe00 zero; 0x4000+0x200 compressed 0x8000+0x200; ");
    CHECK(mapped(chain, 0x4a00, 0x5200) == "0x4a00+0x600 compressed 0x8000+0x200; 0x5000+0x200 at 0x7000; ");
}

TEST_CASE("map: subclusters") {
    Folder folder;
    Maker m({.cluster_bits = 14, .extended_l2 = true});
    m.put64(m.l2_entry(6), 0);
    m.put64(m.l2_entry(6) + 8, 0x8000000100000000);  // no cluster; first and last subcluster zero
    m.put64(m.l2_entry(7), m.data(2) | std::uint64_t{1} << 63);
    m.put64(m.l2_entry(7) + 8, 0);  // a cluster that is there, but shows what is below
    Chain chain = open(folder, m.bytes);
    CHECK(mapped(chain, 0, 1 << 20) ==
          "0x0+0x8000 at 0x14000; 0x8000+0x4000 zero; 0x10000+0x4000 compressed 0x20000+0x200; "
          "0x14000+0x2000 at 0x1c000; 0x16000+0x1000 zero; "
          "0x18000+0x200 zero; 0x1be00+0x200 zero; ");
    CHECK(mapped(chain, 0x15e00, 0x16400) == "0x15e00+0x200 at 0x1de00; 0x16000+0x400 zero; ");
}

TEST_CASE("map: external data file: offset 0 is a place, if the entry says it is used") {
    Folder folder;
    folder.write("data.raw", std::string(0x5800, 'd'));
    Maker m({.data_file = "data.raw"});
    CHECK(mapped(open(folder, m.bytes), 0, 1 << 20) == "0x0+0x2000 at 0x0; 0x2000+0x1000 zero; 0x5000+0x1000 at 0x5000; ");
    m.put64(m.l2_entry(0), 0);
    CHECK(mapped(open(folder, m.bytes), 0, 1 << 20) == "0x1000+0x1000 at 0x1000; 0x2000+0x1000 zero; 0x5000+0x1000 at 0x5000; ");
}

TEST_CASE("map: a last cluster that the end of the file cuts, and zero clusters that keep a place") {
    Folder folder;
    Maker m;
    m.put64(m.l2_entry(4), 0);
    m.put64(m.l2_entry(2), m.data(2) | 1);
    m.put64(m.l2_entry(5), 8 * 4096);
    m.bytes.resize(8 * 4096 + 1);
    CHECK(mapped(open(folder, m.bytes), 0, 1 << 20) == "0x0+0x2000 at 0x5000; 0x2000+0x1000 zero; 0x5000+0x1000 at 0x8000; ");
}

TEST_CASE("map: version 2, and what is past the end of the disk is not looked at") {
    Folder folder;
    Maker m({.version = 2});
    m.put64(24, 0x1200);
    m.put64(m.l2_entry(7), 77);
    CHECK(mapped(open(folder, m.bytes), 0, 1 << 20) == "0x0+0x1200 at 0x5000; ");
    m.put64(24, 0x11ff);
    CHECK(mapped(open(folder, m.bytes), 0, 1 << 20) == "0x0+0x1000 at 0x5000; ");
}

TEST_CASE("map: any cut of the disk gives the whole, with many L2 tables, by two threads at once") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 -o cluster_size=512 i.qcow2 4M && "
         "qemu-io -c 'write -P 1 100k 1M' -c 'write -z 300k 99k' -c 'write -P 2 3M 512' -c 'write -P 3 2M 77k' i.qcow2");
    Chain chain(folder / "i.qcow2", {});
    CHECK(chain.top().image()->l2_tables() >= 30);
    // Byte for byte: which place each sector has.
    auto sectors = [&](std::uint64_t begin, std::uint64_t end, Scratch& scratch, std::vector<std::uint64_t>& out) {
        std::uint64_t last = begin;
        chain.top().map(begin, end, scratch, [&](const Extent& e) {
            if (e.guest < last || e.guest + e.bytes > end) throw std::runtime_error("out of order or of the range");
            last = e.guest + e.bytes;
            for (std::uint64_t at = 0; at < e.bytes; at += 512)
                out[(e.guest + at) / 512] = e.kind == Kind::zero ? 1 : e.host + at;
        });
    };
    std::vector<std::uint64_t> whole(8192);
    Scratch scratch;
    sectors(0, 4 << 20, scratch, whole);
    bool same[2] = {};
    {
        std::vector<std::jthread> threads;
        for (unsigned t = 0; t < 2; t++)
            threads.emplace_back([&, t] {
                std::mt19937 random(t);
                Scratch mine;
                std::vector<std::uint64_t> parts(8192);
                for (std::uint64_t at = 0; at < 4 << 20;) {
                    std::uint64_t next = std::min<std::uint64_t>(4 << 20, at + (random() % 100 + 1) * 512);
                    sectors(at, next, mine, parts);
                    at = next;
                }
                same[t] = parts == whole;
            });
    }
    CHECK(same[0]);
    CHECK(same[1]);
}

}  // namespace dmchain::test
