// SPDX-License-Identifier: GPL-2.0-or-later
// The disk as dmchain reads it, layer by layer and by an index, against the disk as QEMU reads it: chains made by qemu-img and
// qemu-io, one for each feature and some mixtures, compared byte for byte.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <unistd.h>

#include <memory>
#include <random>
#include <vector>

#include "chain/disk.hpp"
#include "qcow2/reader.hpp"
#include "support/folder.hpp"

namespace dmchain::test {
namespace {

using qcow2::Chain;
using qcow2::ChainOptions;
using qcow2::Reader;

// Makes images in a folder; names are relative to it, sizes in bytes.
class Builder {
public:
    explicit Builder(std::uint32_t seed) : random_(seed) {}

    Folder folder;

    void shell(const std::string& command) { must("cd " + folder.path() + " && " + command); }

    void create(const std::string& name, std::uint64_t size, const std::string& options, const std::string& backing = "",
                const std::string& format = "qcow2") {
        shell(fmt::format("qemu-img create -q -f qcow2 {} {} {} {}", options.empty() ? "" : "-o " + options,
                          backing.empty() ? "" : fmt::format("-u -F {} -b '{}'", format, backing), name, size));
    }

    // Writes, zeroes and discards at random places, of all alignments down to @unit.
    void scribble(const std::string& name, std::uint64_t size, int times, std::uint64_t unit = 512) {
        std::string ops;
        for (int i = 0; i < times; i++) {
            std::uint64_t at = random_() % size / unit * unit;
            std::uint64_t n = std::min(size - at, (random_() % (size / 16 + 1) / unit + 1) * unit);
            if (n == 0) continue;
            switch (random_() % 6) {
            case 0: ops += fmt::format(" -c 'write -z {} {}'", at, n); break;
            case 1: ops += fmt::format(" -c 'write -z -u {} {}'", at, n); break;
            case 2: ops += fmt::format(" -c 'discard {} {}'", at, n); break;
            default: ops += fmt::format(" -c 'write -P {} {} {}'", random_() % 255 + 1, at, n);
            }
        }
        shell("qemu-io -f qcow2 -d unmap" + ops + " " + name);
    }

    void raw(const std::string& name, std::uint64_t size) {
        std::string data(size, '\0');
        for (auto& c : data) c = static_cast<char>(random_());
        folder.write(name, data);
    }

    // Compares all of @name, in large pieces and in small ones of any alignment.
    void compare(const std::string& name, const ChainOptions& options = {}, const std::string& qemu = "") {
        shell(fmt::format("qemu-img convert -O raw {} {} qemu.bin", qemu, name));
        const std::string expected = folder.read("qemu.bin");
        Chain chain(folder / name, options);
        CHECK(chain.virtual_size() == expected.size());
        compare(name + ", layer by layer", Reader(chain), expected);
        compare(name + ", by an index", indexed(chain), expected);
        REQUIRE(::unlink((folder / "qemu.bin").c_str()) == 0);
    }

    static chain::Disk::Reader indexed(const Chain& chain) {
        return chain::Disk::Reader(std::make_shared<chain::Disk>(chain, chain.layers().size() - 1));
    }

private:
    template <typename AnyReader>
    void compare(const std::string& name, AnyReader reader, const std::string& expected) {
        std::string found(expected.size(), '?');
        for (std::uint64_t at = 0; at < found.size(); at += 3 << 20)
            reader.read(found.data() + at, std::min<std::uint64_t>(3 << 20, found.size() - at), at);
        CHECK_MESSAGE(found == expected, name, ": first difference at ", first_difference(found, expected));
        for (int i = 0; i < 200 && !expected.empty(); i++) {
            std::uint64_t at = random_() % expected.size();
            std::uint64_t n = std::min(expected.size() - at, random_() % 9000 + 1);
            std::string some(n, '?');
            reader.read(some.data(), n, at);
            CHECK_MESSAGE(some == expected.substr(at, n), name, ": ", n, " bytes at ", at);
        }
    }

    static std::size_t first_difference(const std::string& a, const std::string& b) {
        std::size_t i = 0;
        while (i < a.size() && i < b.size() && a[i] == b[i]) i++;
        return i;
    }
    std::mt19937_64 random_;
};

using namespace std::string_literals;
constexpr std::uint64_t MiB = 1u << 20;

}  // namespace

TEST_CASE("differential: every cluster size, versions 2 and 3") {
    for (unsigned bits = 9; bits <= 21; bits++) {
        CAPTURE(bits);
        Builder b(bits);
        b.create("base.qcow2", 12 * MiB, fmt::format("cluster_size={},compat=0.10", 1u << bits));
        b.scribble("base.qcow2", 12 * MiB, 12);
        b.create("top.qcow2", 12 * MiB, fmt::format("cluster_size={}", 1u << (30 - bits)), "base.qcow2");
        b.scribble("top.qcow2", 12 * MiB, 12);
        b.compare("base.qcow2");
        b.compare("top.qcow2");
    }
}

TEST_CASE("differential: extended L2 entries") {
    for (unsigned bits : {14u, 16u, 21u}) {
        CAPTURE(bits);
        Builder b(bits);
        b.create("base.qcow2", 16 * MiB, "cluster_size=4k");
        b.scribble("base.qcow2", 16 * MiB, 20);
        b.create("mid.qcow2", 16 * MiB, fmt::format("extended_l2=on,cluster_size={}", 1u << bits), "base.qcow2");
        b.scribble("mid.qcow2", 16 * MiB, 40);
        b.create("top.qcow2", 16 * MiB, "extended_l2=on,cluster_size=64k", "mid.qcow2");
        b.scribble("top.qcow2", 16 * MiB, 40);
        b.compare("mid.qcow2");
        b.compare("top.qcow2");
    }
}

TEST_CASE("differential: compressed clusters, overwritten in part") {
    for (const char* type : {"zlib", "zstd"}) {
        for (const char* more : {"cluster_size=512", "cluster_size=64k", "cluster_size=2M", "cluster_size=64k,extended_l2=on"}) {
            CAPTURE(std::string(type) + " " + more);
            Builder b(7);
            b.create("source.qcow2", 10 * MiB + 512 * 77, "");
            b.scribble("source.qcow2", 10 * MiB + 512 * 77, 30);
            b.shell(fmt::format("qemu-img convert -c -O qcow2 -o compression_type={},{} source.qcow2 base.qcow2", type, more));
            b.compare("base.qcow2");
            b.scribble("base.qcow2", 10 * MiB, 10);
            b.create("top.qcow2", 10 * MiB + 512 * 77, "", "base.qcow2");
            b.scribble("top.qcow2", 10 * MiB, 5);
            b.compare("top.qcow2");
        }
    }
}

TEST_CASE("differential: external data files, raw and not, grown, and under an overlay") {
    for (const char* raw : {"off", "on"}) {
        CAPTURE(std::string(raw));
        Builder b(11);
        b.create("base.qcow2", 8 * MiB, fmt::format("data_file=base.data,data_file_raw={}", raw));
        b.scribble("base.qcow2", 8 * MiB, 20);
        b.compare("base.qcow2");
        b.shell("qemu-img resize -q base.qcow2 9M");
        b.scribble("base.qcow2", 9 * MiB, 10);
        b.create("top.qcow2", 9 * MiB, "extended_l2=on,data_file=top.data", "base.qcow2");
        b.scribble("top.qcow2", 9 * MiB, 20);
        b.compare("top.qcow2");
    }
}

TEST_CASE("differential: raw backing files, whole and with a cut sector, shorter and longer") {
    for (std::uint64_t size : {5 * MiB, 5 * MiB + 1, 5 * MiB + 511, 5 * MiB + 512, std::uint64_t{0}, std::uint64_t{100}}) {
        CAPTURE(size);
        Builder b(13);
        b.raw("base.raw", size);
        b.create("long.qcow2", 7 * MiB, "", "base.raw", "raw");
        b.scribble("long.qcow2", 7 * MiB, 3);
        b.compare("long.qcow2");
        b.create("short.qcow2", 3 * MiB + 512, "cluster_size=512", "base.raw", "raw");
        b.compare("short.qcow2");
    }
}

TEST_CASE("differential: a layer ends what lies below it") {
    Builder b(17);
    b.create("base.qcow2", 8 * MiB, "");
    b.shell("qemu-io -c 'write -P 1 0 8M' base.qcow2");
    b.create("short.qcow2", 3 * MiB + 512 * 3, "", "base.qcow2");
    b.create("middle.qcow2", 6 * MiB, "cluster_size=2M", "short.qcow2");
    b.shell("qemu-io -c 'write -P 2 5M 512k' middle.qcow2");
    b.create("top.qcow2", 8 * MiB - 512, "cluster_size=1M", "middle.qcow2");
    b.compare("short.qcow2");
    b.compare("middle.qcow2");
    b.compare("top.qcow2");
    CHECK(Chain(b.folder / "top.qcow2", {}).unit() == 512);
}

TEST_CASE("differential: names: relative, absolute, file:, json: nested and dotted") {
    Builder b(19);
    b.raw("base.raw", 4 * MiB);
    const std::string dir = b.folder.path();

    int n = 0;
    for (const std::string& name :
         {std::string("base.raw"), "file:l0.qcow2"s,
          R"(json:{"driver":"qcow2","file":{"driver":"file","filename":")" + dir + R"(/l1.qcow2"}})",
          R"(json:{"file.driver":"file","file.filename":"l2.qcow2","driver":"qcow2"})"s,
          R"(json:{"file":{"filename":"l3.qcow2","driver":"file","locking":"off"},"driver":"qcow2","read-only":true})"s,
          dir + "/l4.qcow2", "./l5.qcow2"s, R"(json:{"file":{"driver":"file","filename":"l6.qcow2"}})"s}) {
        std::string layer = fmt::format("l{}.qcow2", n);
        b.create(layer, 4 * MiB, "", name, n == 0 ? "raw" : "qcow2");
        b.scribble(layer, 4 * MiB, 2);
        b.compare(layer);
        CHECK(Chain(b.folder / layer, {}).layers().size() == static_cast<std::size_t>(n) + 2);
        n++;
    }
    // Declared raw is raw, also when the bytes are a qcow2 image.
    b.create("bytes.qcow2", 4 * MiB, "", R"(json:{"driver":"raw","file":{"driver":"file","filename":"l0.qcow2"}})", "raw");
    b.compare("bytes.qcow2");
    CHECK(Chain(b.folder / "bytes.qcow2", {}).layers().size() == 2);
}

TEST_CASE("differential: internal snapshots, ignored or chosen by id or name") {
    Builder b(23);
    b.create("base.qcow2", 4 * MiB, "");
    b.scribble("base.qcow2", 4 * MiB, 10);
    b.create("top.qcow2", 4 * MiB, "extended_l2=on", "base.qcow2");
    b.scribble("top.qcow2", 4 * MiB, 10);
    b.shell("qemu-img snapshot -c first top.qcow2");
    b.scribble("top.qcow2", 4 * MiB, 10);
    b.shell("qemu-img snapshot -c 'second one' top.qcow2");
    b.scribble("top.qcow2", 4 * MiB, 10);
    b.compare("top.qcow2");
    ChainOptions chosen;
    chosen.snapshot = "first";
    b.compare("top.qcow2", chosen, "-l snapshot.name=first");
    chosen.snapshot = "2";
    b.compare("top.qcow2", chosen, "-l snapshot.id=2");
    chosen.snapshot = "third";
    CHECK_THROWS_WITH_AS(Chain(b.folder / "top.qcow2", chosen),
                         (b.folder.path() + "/top.qcow2: has no internal snapshot with the id or name 'third'; it has 1 "
                                            "('first'), 2 ('second one')")
                             .c_str(),
                         Error);
}

TEST_CASE("differential: bitmaps, lazy refcounts and a dirty image") {
    Builder b(29);
    b.create("top.qcow2", 4 * MiB, "lazy_refcounts=on,refcount_bits=1");
    b.scribble("top.qcow2", 4 * MiB, 10);
    b.shell("qemu-img bitmap --add -g 64k top.qcow2 b0");
    b.scribble("top.qcow2", 4 * MiB, 5);
    b.compare("top.qcow2");
    // Killed while it writes: the refcounts on the disk are stale.
    Ran ran = run("cd " + b.folder.path() + " && qemu-io -c 'write -P 9 1M 777k' -c 'sigraise 9' top.qcow2");
    REQUIRE(ran.status != 0);
    CHECK((static_cast<unsigned char>(b.folder.read("top.qcow2")[79]) & 1) == 1);
    b.compare("top.qcow2");
}

TEST_CASE("differential: an image that is marked corrupt, read only") {
    Builder b(37);
    b.create("base.qcow2", 4 * MiB, "");
    b.scribble("base.qcow2", 4 * MiB, 10);
    std::string bytes = b.folder.read("base.qcow2");
    bytes[79] |= 2;
    b.folder.write("base.qcow2", bytes);
    b.create("top.qcow2", 4 * MiB, "", "base.qcow2");
    b.scribble("top.qcow2", 4 * MiB, 5);
    ChainOptions options;
    options.ignore_corrupt = true;
    b.compare("base.qcow2", options);
    b.compare("top.qcow2", options);
    CHECK_THROWS_AS(Chain(b.folder / "top.qcow2", {}), Error);
}

TEST_CASE("differential: sizes: none, not whole sectors, 64 TiB") {
    Builder b(31);
    b.create("none.qcow2", 0, "");
    b.compare("none.qcow2");
    b.create("odd.qcow2", 1 * MiB, "");
    b.shell("qemu-io -c 'write -P 5 0 1M' odd.qcow2");
    std::string bytes = b.folder.read("odd.qcow2");
    bytes[30] = 0x07, bytes[31] = 0x01;  // size: 0x100000 -> 0x100701
    b.folder.write("odd.qcow2", bytes);
    b.compare("odd.qcow2");
    b.create("over.qcow2", 2 * MiB, "", "odd.qcow2");
    b.compare("over.qcow2");

    const std::uint64_t huge = std::uint64_t{64} << 40;
    b.create("huge.qcow2", huge, "");
    b.shell(fmt::format("qemu-io -c 'write -P 7 {} 1M' -c 'write -P 8 {} 64k' huge.qcow2", huge - MiB, std::uint64_t{33} << 40));
    Chain chain(b.folder / "huge.qcow2", {});
    CHECK(chain.virtual_size() == huge);
    const auto ends = [&](auto reader) {
        std::string s(2 * MiB, '?');
        reader.read(s.data(), s.size(), huge - 2 * MiB);
        CHECK(s == std::string(MiB, '\0') + std::string(MiB, '\7'));
        reader.read(s.data(), s.size(), (std::uint64_t{33} << 40) - MiB);
        CHECK(s == std::string(MiB, '\0') + std::string(65536, '\10') + std::string(MiB - 65536, '\0'));
        reader.read(s.data(), s.size(), huge - 512);
        CHECK(s == std::string(512, '\7') + std::string(2 * MiB - 512, '\0'));
    };
    ends(Reader(chain));
    ends(Builder::indexed(chain));
}

TEST_CASE("differential: the disk at every point of a chain") {
    Builder b(41);
    const std::uint64_t sizes[] = {5 * MiB, 5 * MiB, 3 * MiB + 512, 9 * MiB, 6 * MiB + 4096};
    for (int i = 0; i < 5; i++) {
        const std::string name = fmt::format("l{}", i);
        b.create(name, sizes[i], i % 2 ? "extended_l2=on" : "", i ? fmt::format("l{}", i - 1) : "");
        b.scribble(name, sizes[i], 20);
    }
    const Chain chain(b.folder / "l4", {});
    for (std::size_t point = 0; point < 5; point++) {
        CAPTURE(point);
        b.shell(fmt::format("qemu-img convert -O raw l{} qemu.bin", point));
        const std::string expected = b.folder.read("qemu.bin");
        std::string found(expected.size() + MiB, '?');
        chain::Disk::Reader(std::make_shared<chain::Disk>(chain, point)).read(found.data(), found.size(), 0);
        CHECK(found == expected + std::string(MiB, '\0'));
    }
}

TEST_CASE("what is damaged elsewhere is in no reader's way") {
    Builder b(43);
    b.create("base", 64 * MiB, "cluster_size=4k");
    b.shell("qemu-io -c 'write -q -P 1 0 1M' -c 'write -q -P 2 32M 1M' base");
    b.create("top", 64 * MiB, "", "base");
    std::string bytes = b.folder.read("base");
    const auto be64 = [&](std::uint64_t at) {
        std::uint64_t v = 0;
        for (int i = 0; i < 8; i++) v = v << 8 | static_cast<unsigned char>(bytes[at + i]);
        return v;
    };
    // The L2 table of what lies at 32 MiB, one for each 2 MiB: its first entry is at no cluster.
    bytes[(be64(be64(40) + 16 * 8) & 0x00fffffffffffe00) + 6] = '\2';
    b.folder.write("base", bytes);
    const Chain chain(b.folder / "top", {});
    auto reader = Builder::indexed(chain);
    std::string s(MiB, '?');
    reader.read(s.data(), s.size(), 0);
    CHECK(s == std::string(MiB, '\1'));
    CHECK_THROWS_WITH_AS(reader.read(s.data(), s.size(), 32 * MiB), doctest::Contains("base: "), Error);
}

}  // namespace dmchain::test
