// SPDX-License-Identifier: GPL-2.0-or-later
// Chains: loops, formats that are not declared, depth, and what
// the index builder asks of a chain.
#include "qcow2/chain.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <optional>

#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using qcow2::Chain;
using qcow2::ChainOptions;
using qcow2::Format;

std::string error_of(const std::string& top, const ChainOptions& options = {}) {
    try {
        Chain chain(top, options);
    } catch (const Error& e) {
        return fmt::format("{} {}", static_cast<int>(e.code()), e.what());
    }
    return "none";
}

std::string over(const std::string& backing, const std::string& format = "qcow2") {
    return Maker({.backing = backing, .backing_format = format}).bytes;
}

}  // namespace

TEST_CASE("chain: what the index builder asks") {
    Folder folder;
    folder.write("base.raw", std::string(10001, 'r'));
    folder.write("mid.qcow2",
                 Maker({.cluster_bits = 14, .extended_l2 = true, .backing = "base.raw", .backing_format = "raw"}).bytes);
    folder.write("data.raw", std::string(65536, 'd'));
    folder.write("top.qcow2", Maker({.backing = "mid.qcow2", .backing_format = "qcow2", .data_file = "data.raw"}).bytes);
    Chain chain(folder / "top.qcow2", {});
    REQUIRE(chain.layers().size() == 3);
    const qcow2::Layer& base = *chain.layers()[0];
    CHECK(base.format() == Format::raw);
    CHECK(base.image() == nullptr);
    CHECK(base.data_file() == nullptr);
    CHECK(base.cluster_bits() == 0);
    CHECK(base.virtual_size() == 10240);
    CHECK(base.file().size() == 10001);
    CHECK(base.file().path() == folder / "base.raw");
    const qcow2::Layer& mid = *chain.layers()[1];
    CHECK(mid.format() == Format::qcow2);
    CHECK(mid.cluster_bits() == 14);
    CHECK(mid.unit() == 512);
    CHECK(mid.virtual_size() == 16 << 14);
    const qcow2::Layer& top = *chain.layers()[2];
    CHECK(&chain.top() == &top);
    CHECK(top.unit() == 4096);
    REQUIRE(top.data_file() != nullptr);
    CHECK(top.data_file()->path() == folder / "data.raw");
    CHECK(top.data_file()->size() == 65536);
    CHECK(top.file().identity().inode != top.data_file()->identity().inode);
    CHECK(chain.virtual_size() == 65536);
    CHECK(chain.unit() == 512);

    qcow2::Scratch scratch;
    std::vector<qcow2::Extent> extents;
    base.map(512, 1 << 20, scratch, [&](const qcow2::Extent& e) { extents.push_back(e); });
    REQUIRE(extents.size() == 1);
    CHECK(extents[0].guest == 512);
    CHECK(extents[0].host == 512);
    CHECK(extents[0].bytes == 10240 - 512);
    CHECK(extents[0].kind == qcow2::Kind::data);
    base.map(10240, 1 << 20, scratch, [&](const qcow2::Extent&) { FAIL("past the end"); });
}

TEST_CASE("chain: loops of every length are refused") {
    Folder folder;
    folder.write("a.qcow2", over("b.qcow2"));
    folder.write("b.qcow2", over("c.qcow2"));
    folder.write("c.qcow2", over("link.qcow2"));
    REQUIRE(::symlink("b.qcow2", (folder / "link.qcow2").c_str()) == 0);
    CHECK(error_of(folder / "a.qcow2") ==
          fmt::format("3 {0}/c.qcow2: its backing file '{0}/b.qcow2' is in the chain already (named by {0}/a.qcow2), "
                      "expected a chain without loops",
                      folder.path()));
    // The same file by another name (a hard link).
    folder.write("c.qcow2", over("hard.qcow2"));
    REQUIRE(::link((folder / "a.qcow2").c_str(), (folder / "hard.qcow2").c_str()) == 0);
    CHECK(error_of(folder / "a.qcow2") ==
          fmt::format("3 {0}/c.qcow2: its backing file '{0}/hard.qcow2' is in the chain already (named by the command), "
                      "expected a chain without loops",
                      folder.path()));
}

TEST_CASE("chain: a part of an open chain stays open without it") {
    Folder folder;
    folder.write("base.qcow2", Maker().bytes);
    folder.write("middle.qcow2", over("base.qcow2"));
    std::optional<Chain> whole(std::in_place, folder.write("top.qcow2", over("middle.qcow2")), qcow2::ChainOptions());
    const Chain part = whole->part(0, 1);
    const int fd = part.top().file().fd();
    CHECK(&part.top() == whole->layers()[1].get());
    whole.reset();
    CHECK(part.layers().size() == 2);
    CHECK(part.top().file().path() == folder / "middle.qcow2");
    CHECK(::fcntl(fd, F_GETFD) >= 0);
}

TEST_CASE("chain: a format that is not declared is probed for qcow2, and never silently raw") {
    Folder folder;
    folder.write("base.qcow2", Maker().bytes);
    folder.write("base.raw", std::string(65536, 'r'));
    const std::string top = folder.write("top.qcow2", over("base.qcow2", ""));
    Chain chain(top, {});
    CHECK(chain.layers()[0]->format() == Format::qcow2);
    CHECK(Chain(top, {.assume_raw = true}).layers()[0]->format() == Format::qcow2);
    folder.write("top.qcow2", over("base.raw", ""));
    CHECK(error_of(top).starts_with("1 "));
    CHECK(Chain(top, {.assume_raw = true}).layers()[0]->format() == Format::raw);
    // Declared raw is raw, whatever it looks like: a guest can write a qcow2 header to its raw disk.
    folder.write("top.qcow2", over("base.qcow2", "raw"));
    CHECK(Chain(top, {}).layers()[0]->format() == Format::raw);
    // The image on top is never taken for raw.
    CHECK(error_of(folder / "base.raw", {.assume_raw = true}) ==
          "1 " + folder.path() + "/base.raw: is not a qcow2 image: magic at offset 0 is 0x72727272, expected 0x514649fb");
}

TEST_CASE("chain: 1000 layers open, 4097 files are too many") {
    Folder folder;
    Maker maker({.cluster_bits = 9, .backing_format = "qcow2"});
    maker.put64(8, 300);
    auto add = [&](int i) {
        const std::string name = fmt::format("l{}.qcow2", i - 1);
        maker.put32(16, name.size());
        maker.put_text(300, name);
        folder.write(fmt::format("l{}.qcow2", i), maker.bytes);
    };
    folder.write("l0.qcow2", Maker({.cluster_bits = 9}).bytes);
    for (int i = 1; i <= 16384; i++) add(i);
    CHECK(Chain(folder / "l999.qcow2", {}).layers().size() == 1000);
    CHECK(Chain(folder / "l16383.qcow2", {}).layers().size() == 16384);
    CHECK(error_of(folder / "l16384.qcow2") ==
          fmt::format("1 {}/l1.qcow2: its backing file would be file 16385 of the chain, expected at most 16384", folder.path()));
}

TEST_CASE("a limit of open files that is too low: the advice is a number that is enough") {
    Folder folder;
    folder.write("l0.qcow2", Maker({.cluster_bits = 9}).bytes);
    folder.write("data.raw", "");
    Maker with_data({.cluster_bits = 12, .backing = "l0.qcow2", .backing_format = "qcow2", .data_file = "data.raw"});
    with_data.put64(with_data.l1(), 0);
    folder.write("l1.qcow2", with_data.bytes);
    for (int i = 2; i < 500; i++) folder.write(fmt::format("l{}.qcow2", i), over(fmt::format("l{}.qcow2", i - 1)));
    const auto limited = [&](int files) {
        // Even root must not be able to raise it.
        return run(fmt::format("ulimit -n {}; exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource {} check {}",
                               files, dmchain(), folder / "l499.qcow2"));
    };
    const Ran ran = limited(300);
    CAPTURE(ran.out);
    CHECK(ran.status == 1);
    CHECK(ran.out.find("needs 757 open files, the limit is 300; raise it with \"ulimit -n 757\"") != std::string::npos);
    CHECK(limited(756).status == 1);
    CHECK(limited(757).status == 0);
}

TEST_CASE("a limit of open files that a short chain keeps does not stop it") {
    Folder folder;
    folder.write("l0.qcow2", Maker({.cluster_bits = 9}).bytes);
    const Ran ran = run("ulimit -n 300; " + dmchain() + " inspect " + (folder / "l0.qcow2"));
    CAPTURE(ran.out);
    CHECK(ran.status == 0);
}

}  // namespace dmchain::test
