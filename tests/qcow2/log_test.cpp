// SPDX-License-Identifier: GPL-2.0-or-later
// The log of a layer in use: what is read from it, where it ends, and every damaged log with its exact message.
#include <doctest/doctest.h>

#include <functional>

#include "io/error.hpp"
#include "qcow2/active.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/check.hpp"
#include "qcow2/header_bytes.hpp"
#include "support/active_maker.hpp"

namespace dmchain::test {
namespace {

using namespace dmchain::qcow2;

constexpr std::uint64_t kib64 = 65536;
constexpr std::uint64_t disk = 16 * kib64;
constexpr std::uint64_t first_data = kib64 + (1 << 20);  // behind the header and the first segment
constexpr std::uint64_t all_units = 0xffff;              // of 4 KiB

struct Layer {
    Layer() : maker(made(), 16) {}
    std::string made() {
        make_active(folder / "layer.qcow2", {disk, 16, 12, "base.qcow2"});
        return folder.read("layer.qcow2");
    }
    Log read() {
        folder.write("layer.qcow2", maker.bytes);
        return {File(folder / "layer.qcow2"), 16};
    }
    Folder folder;
    ActiveMaker maker;
};

}  // namespace

TEST_CASE("an empty log") {
    Layer l;
    const Log log = l.read();
    CHECK(log.size() == disk);
    CHECK(log.unit_bits() == 12);
    CHECK(log.units() == 16);
    CHECK(log.clusters().empty());
    CHECK_FALSE(log.successor());
    CHECK(log.position().segment.offset == kib64);
    CHECK(log.position().segment.bytes == 1 << 20);
    CHECK(log.position().next == kib64 + 4096);
    CHECK(log.position().sequence == 1);
    CHECK(log.position().epoch == 0);
    CHECK(log.end() == first_data);
    CHECK(std::string(log.id().begin(), log.id().end()) == l.maker.id());
}

TEST_CASE("the last record of a cluster counts, and an empty one is none") {
    Layer l;
    const std::uint64_t a = l.maker.grow(), b = l.maker.grow();
    CHECK(a == first_data);
    l.maker.records({{3, a, 1}, {5, b, all_units}, {3, a, 3}});
    l.maker.epoch = 4;
    l.maker.records({{7, 0, 1ull << 32}, {5, 0, 0}, {3, a, 7 | 1ull << 40}});
    l.maker.records({});
    const Log log = l.read();
    REQUIRE(log.clusters().size() == 2);
    CHECK(log.clusters()[0].cluster == 3);
    CHECK(log.clusters()[0].host == a);
    CHECK(log.clusters()[0].bitmap == (7 | 1ull << 40));
    CHECK(log.clusters()[1].cluster == 7);
    CHECK(log.position().sequence == 4);
    CHECK(log.position().epoch == 4);
    CHECK(log.position().next == kib64 + 4 * 4096);
    CHECK(log.end() == a + kib64);

    std::vector<Extent> seen;
    log.map(0, disk, [&](const Extent& e) { seen.push_back(e); });
    REQUIRE(seen.size() == 3);
    CHECK(seen[0].guest == 3 * kib64);
    CHECK(seen[0].bytes == 3 * 4096);
    CHECK(seen[0].kind == Kind::data);
    CHECK(seen[0].host == a);
    CHECK(seen[1].guest == 3 * kib64 + 8 * 4096);
    CHECK(seen[1].bytes == 4096);
    CHECK(seen[1].kind == Kind::zero);
    CHECK(seen[2].guest == 7 * kib64);
    seen.clear();
    log.map(3 * kib64 + 512, 3 * kib64 + 4096 + 512, [&](const Extent& e) { seen.push_back(e); });
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].host == a + 512);
    CHECK(seen[0].bytes == 4096);
}

TEST_CASE("a layer that grew after it was opened") {
    Layer l;
    l.read();
    const File file(l.folder / "layer.qcow2");
    const std::uint64_t a = l.maker.grow();
    l.maker.records({{1, a, all_units}});
    l.folder.write("layer.qcow2", l.maker.bytes);
    const Log log(file, 16);
    REQUIRE(log.clusters().size() == 1);
    CHECK(log.clusters()[0].host == a);
}

TEST_CASE("the log ends before the first block that is not the next one") {
    Layer l;
    const std::uint64_t a = l.maker.grow();
    l.maker.records({{1, a, 1}});
    const std::uint64_t at = l.maker.records({{2, 0, 1ull << 32}});
    l.maker.records({{3, 0, 1ull << 32}});
    REQUIRE(l.read().clusters().size() == 3);
    ActiveMaker& m = l.maker;
    SUBCASE("torn") { m.put(at + 2000, std::uint8_t{1}); }
    SUBCASE("no magic") {
        m.put(at, std::uint8_t{0});
        m.sum(at);
    }
    SUBCASE("of another layer") {
        m.put(at + 8, ~m.get64(at + 8));
        m.sum(at);
    }
    SUBCASE("left from before") {
        m.put(at + 16, htole64(std::uint64_t{1}));
        m.sum(at);
    }
    SUBCASE("one is missing") {
        m.put(at + 16, htole64(std::uint64_t{3}));
        m.sum(at);
    }
    SUBCASE("of an epoch before") {
        m.put(at + 24, std::uint32_t{0});
        m.sum(at);
    }
    SUBCASE("never written") { m.bytes.replace(at, 4096, 4096, '\0'); }
    const Log log = l.read();
    CHECK(log.clusters().size() == 1);
    CHECK(log.position().next == at);
    CHECK(log.position().sequence == 2);
}

TEST_CASE("segments") {
    Layer l;
    ActiveMaker& m = l.maker;
    // The first one up to its last block.
    std::uint64_t n = 0;
    while (m.left() > 1) m.records({{n++ % 16, 0, 1ull << 32 | n << 33}});
    SUBCASE("full") {
        m.records({});
        const Log log = l.read();
        CHECK(log.position().next == first_data);
        CHECK(log.position().sequence == 256);
        CHECK(log.segments().size() == 1);
        return;
    }
    const std::uint64_t data = m.grow(), segment = m.grow(2);
    m.next(segment, 2 * kib64);
    SUBCASE("nothing in it") {
        const Log log = l.read();
        CHECK(log.position().next == segment);
        CHECK(log.position().segment.bytes == 2 * kib64);
        CHECK(log.position().sequence == 256);
        CHECK(log.end() == segment + 2 * kib64);
    }
    SUBCASE("goes on") {
        m.records({{9, data, all_units}});
        const std::uint64_t last = m.grow(1);
        m.next(last, kib64);
        m.records({{10, 0, all_units << 32}});
        const Log log = l.read();
        CHECK(log.segments().size() == 3);
        CHECK(log.position().next == last + 4096);
        CHECK(log.clusters().size() == 16);
        CHECK(log.clusters()[9].host == data);
    }
}

TEST_CASE("many records of few clusters") {
    Layer l;
    const std::uint64_t a = l.maker.grow(), segment = l.maker.grow(64);
    l.maker.next(segment, 64 * kib64);
    std::vector<ActiveMaker::Record> block(169);
    for (std::uint64_t i = 0; i < 1000; i++) {
        for (std::uint64_t k = 0; k < block.size(); k++) {
            const std::uint64_t c = (i + k) % 16;
            block[k] = {c, c == 4 ? a : 0, c == 4 ? all_units : (i + 1) << 32 & 0xffff00000000};
        }
        l.maker.records(block);
    }
    const Log log = l.read();
    CHECK(log.clusters().size() == 16);
    CHECK(log.clusters()[4].host == a);
    CHECK(log.clusters()[5].bitmap == 1000ull << 32);
}

TEST_CASE("the disk's size is what the log says last") {
    Layer l;
    l.maker.records({{15, 0, 1ull << 32}});
    l.maker.resize(20 * 128);
    l.maker.records({{19, 0, 1ull << 32}});
    CHECK(l.read().size() == 20 * kib64);
    CHECK(l.read().clusters().size() == 2);
    l.maker.resize(10 * 128 + 1);
    CHECK(l.read().clusters().empty());
    CHECK(l.read().units_of(10) == 1);
    l.maker.resize(40 * 128);
    CHECK(l.read().clusters().empty());
    CHECK(l.read().units_of(39) == 0xffff);
}

TEST_CASE("a closed log names who took over, and nothing follows") {
    Layer l;
    l.maker.close("0123456789abcdef", "/some/where/next.qcow2");
    l.maker.records({{1, 0, 1ull << 32}});
    const Log log = l.read();
    REQUIRE(log.successor());
    CHECK(log.successor()->path == "/some/where/next.qcow2");
    CHECK(std::string(log.successor()->id.begin(), log.successor()->id.end()) == "0123456789abcdef");
    CHECK(log.clusters().empty());
}

namespace {

struct Damage {
    const char* name;
    std::function<void(ActiveMaker&)> damage;
    std::string message;  // what follows the file's name
};

const std::uint64_t block1 = kib64 + 4096;
using M = ActiveMaker;

// A field of the head, checksum right.
template <typename T>
std::function<void(M&)> head(std::uint64_t at, T v) {
    return [=](M& m) {
        m.put(kib64 + at, v);
        m.sum_head();
    };
}
// One record as the first block.
std::function<void(M&)> record(std::uint64_t cluster, std::uint64_t host, std::uint64_t bitmap) {
    return [=](M& m) {
        m.grow(4);
        m.records({{0, 0, 0}, {cluster, host, bitmap}});
    };
}
std::string at(std::uint64_t byte, const std::string& rest) { return fmt::format(": log at byte {}: {}", byte, rest); }

std::vector<Damage> damages() {
    const std::uint64_t file = first_data, end = first_data + 4 * kib64, second = block1 + 32 + 24;
    return {
        {"magic", [](M& m) { m.put(kib64, 'X'); },
         at(65536, "magic of the log is 740647852774215000, expected 740647852774214980")},
        {"version", head(8, htole32(7u)), at(65544, "version of the log is 7, expected 1")},
        {"cluster", head(48, std::uint8_t{17}), at(65584, "cluster_shift of the log is 17, expected 16")},
        {"unit large", head(49, std::uint8_t{17}), at(65585, "unit_shift of the log is 17, expected at most 16")},
        {"unit small", head(49, std::uint8_t{10}), at(65585, "unit_shift of the log is 10, expected at least 11")},
        {"size", head(32, htole64((1ull << 43) + 1)),
         at(65568, "virtual size in sectors is 8796093022209, expected at most 8796093022208")},
        {"segment small", head(40, htole64(std::uint64_t{0})),
         at(65576, "bytes of the log's first segment is 0, expected a multiple of 65536")},
        {"segment unaligned", head(40, htole64(std::uint64_t{70000})),
         at(65576, "bytes of the log's first segment is 70000, expected a multiple of 65536")},
        {"segment outside", head(40, htole64(std::uint64_t{2 << 20})),
         at(65576, fmt::format("end of the log's first segment is {}, expected at most {}", kib64 + (2 << 20), file))},
        {"count", [](M& m) { m.add(1, "", 170); }, at(block1 + 30, "records of a log block is 170, expected at most 169")},
        {"record outside the disk", record(16, 0, 1ull << 32), at(second, "cluster of a log record is 16, expected at most 15")},
        {"record with too many units", record(1, first_data, 1ull << 16),
         at(second + 16, "bitmap of a log record is 65536, expected one of (mask) 281470681808895")},
        {"record both stored and zero", record(1, first_data, 1ull << 32 | 1),
         at(second + 16, "units both stored and zero in a log record is 1, expected 0")},
        {"record without a place", record(1, 0, 1), at(second + 8, "offset of a log record is 0, expected at least 131072")},
        {"record with a place for nothing", record(1, first_data, 0),
         at(second + 8, fmt::format("offset of a log record is {}, expected 0", first_data))},
        {"record unaligned", record(1, first_data + 4096, 1),
         at(second + 8, fmt::format("offset of a log record is {}, expected a multiple of 65536", first_data + 4096))},
        {"record past the end", record(1, end, 1),
         at(second + 8, fmt::format("offset of a log record is {}, expected at most {}", end, end - kib64))},
        {"record past everything", record(1, 1ull << 63, 1),
         at(second + 8, fmt::format("offset of a log record is {}, expected at most {}", 1ull << 63, end - kib64))},
        {"next nowhere", [](M& m) { m.add(2, M::number(0) + M::number(kib64)); },
         at(block1 + 32, "offset of the log's next segment is 0, expected a multiple of 65536")},
        {"next unaligned", [](M& m) { m.add(2, M::number(4096) + M::number(kib64)); },
         at(block1 + 32, "offset of the log's next segment is 4096, expected a multiple of 65536")},
        {"next empty", [](M& m) { m.add(2, M::number(kib64) + M::number(0)); },
         at(block1 + 40, "bytes of the log's next segment is 0, expected a multiple of 65536")},
        {"next outside", [](M& m) { m.add(2, M::number(first_data) + M::number(kib64)); },
         at(block1 + 40,
            fmt::format("end of the log's next segment is {}, expected at most {}", first_data + kib64, first_data))},
        {"size of the disk", [](M& m) { m.resize((1ull << 43) + 1); },
         at(block1 + 32, "virtual size in sectors is 8796093022209, expected at most 8796093022208")},
        {"successor without a path", [](M& m) { m.close(std::string(16, 'u'), ""); },
         at(block1 + 48, "length of the successor's path is 0, expected at most 4046")},
        {"successor with a long path", [](M& m) { m.add(4, std::string(16, 'u') + std::string("\xff\x7f") + "/x"); },
         at(block1 + 48, "length of the successor's path is 32767, expected at most 4046")},
        {"successor with a relative path", [](M& m) { m.close(std::string(16, 'u'), "next.qcow2"); },
         at(block1 + 50, "first byte of the successor's path is 110, expected 47")},
        {"type", [](M& m) { m.add(9, ""); }, at(block1 + 28, "type of a log block is 9, expected at most 4")},
        {"data in the log",
         [](M& m) {
             m.records({{1, kib64, 1}});
         },
         ": cluster at 0x10000 is used twice by the log's records or by the log itself, expected one use"},
        {"data in the header's cluster of a later segment",
         [](M& m) {
             const std::uint64_t s = m.grow(2);
             m.next(s, 2 * kib64);
             m.records({{1, s + kib64, 1}});
         },
         ": cluster at 0x120000 is used twice by the log's records or by the log itself, expected one use"},
        {"data of two clusters",
         [](M& m) {
             m.grow(1);
             m.records({{1, first_data, 1}, {2, first_data, 2}});
         },
         ": cluster at 0x110000 is used twice by the log's records or by the log itself, expected one use"},
    };
}

}  // namespace

TEST_CASE("damaged logs are refused with their place, what was found and what was expected") {
    for (const Damage& d : damages()) {
        CAPTURE(d.name);
        Layer l;
        d.damage(l.maker);
        const std::string path = l.folder.write("layer.qcow2", l.maker.bytes);
        std::string message;
        try {
            const Log log(File(path), 16);
        } catch (const Error& e) {
            message = e.what();
            CHECK(e.code() == Exit::damaged);
        }
        CHECK(message == path + d.message);
        const Ran ran = run(dmchain() + " inspect " + path);
        CHECK(ran.status == 3);
        CHECK(ran.out.find(path + d.message + "\n") != std::string::npos);
        CHECK(run(dmchain() + " seal " + path).status == 3);
        CHECK(l.folder.read("layer.qcow2") == l.maker.bytes);
    }
    Layer l;
    l.maker.put(kib64 + 2000, 'x');
    const std::string path = l.folder.write("layer.qcow2", l.maker.bytes);
    CHECK_THROWS_WITH(Log(File(path), 16), doctest::Contains(": log at byte 65548: checksum of the log's head is "));
}

TEST_CASE("headers of layers in use that contradict themselves are refused") {
    Layer l;
    const auto message = [&] {
        const std::string path = l.folder.write("layer.qcow2", l.maker.bytes);
        try {
            ChainOptions o;
            o.in_use = true;
            const Chain chain(path, o);
        } catch (const Error& e) {
            return std::string(e.what()).substr(path.size());
        }
        return std::string();
    };
    l.folder.write("base.qcow2", "");
    SUBCASE("other features") {
        l.maker.put(79, std::uint8_t{4});
        CHECK(message() ==
              ": incompatible features at offset 72 are 0x8000000000000004 with 0 internal snapshots and crypt_method 0, "
              "expected a layer of dm-chain to have only bit 63");
    }
    SUBCASE("small clusters") {
        l.maker.put(23, std::uint8_t{11});
        CHECK(message() == ": cluster_bits at offset 20 is 11, expected at least 12 in a layer of dm-chain");
    }
    SUBCASE("other clusters") {
        l.maker.put(23, std::uint8_t{15});
        CHECK(message() == ": log at byte 32768: magic of the log is 0, expected 740647852774214980");
    }
}

TEST_CASE("an active layer is made with its backing file, and not over anything") {
    Folder folder;
    folder.write("there", "precious");
    CHECK_THROWS_WITH(make_active(folder / "there", {disk, 16, 12, "base"}),
                      doctest::Contains("there: cannot create: File exists"));
    CHECK(folder.read("there") == "precious");
    CHECK_THROWS_WITH(make_active(folder / "long", {disk, 16, 12, std::string(1024, 'n')}),
                      doctest::Contains("expected at most 1023"));
    CHECK_FALSE(std::filesystem::exists(folder / "long"));
    make_active(folder / "longest", {disk, 16, 12, std::string(1023, 'n')});
    const Header h = read_header(File(folder / "longest"), true);
    CHECK(h.in_use());
    CHECK(h.backing_name == std::string(1023, 'n'));
    CHECK(h.backing_format == "qcow2");
    CHECK(h.size == disk);
    CHECK(h.cluster_bits == 16);
    CHECK_FALSE(h.sealed_unit_bits);
    for (unsigned bits = 12; bits <= 21; bits++) {
        const std::string path = folder / fmt::format("of{}", bits);
        make_active(path, {disk, bits, 9, "base"});
        const Log log(File(path), bits);
        CHECK(log.unit_bits() == std::max(9u, bits - 5));
    }
}

TEST_CASE("names of backing files") {
    CHECK(backing_name("/a/new", "/a/old", true) == "old");
    CHECK(backing_name("/a/new", "/a/old", false) == "/a/old");
    CHECK(backing_name("/a/b/new", "/a/old", true) == "/a/old");
    CHECK(backing_name("/a/new", "/a/b/old", true) == "/a/b/old");
    CHECK(backing_name("/new", "/old", true) == "old");
    CHECK(backing_name("/a/new", "/a/nbd:x", true) == "./nbd:x");
    CHECK(backing_name("/a/new", "/a/json:{}", true) == "./json:{}");
}

TEST_CASE("names of layers") {
    Folder folder;
    CHECK(next_layer_name("/a/vm.qcow2") == "/a/vm.1.qcow2");
    CHECK(next_layer_name("vm.7.qcow2") == "vm.8.qcow2");
    CHECK(next_layer_name("/a/vm") == "/a/vm.1.qcow2");
    CHECK(next_layer_name("/a/vm.img") == "/a/vm.1.img");
    folder.write("vm.1.qcow2", "");
    std::filesystem::create_symlink("nowhere", folder / "vm.2.qcow2");
    CHECK(next_layer_name(folder / "vm.qcow2") == folder / "vm.3.qcow2");
}

}  // namespace dmchain::test
