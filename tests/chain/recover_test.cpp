// SPDX-License-Identifier: GPL-2.0-or-later
// The chain file from the layers alone: what it says of the active layer, which layer is taken for it, and what is
// refused. The index of a layer in use is compared with the layer.
#include <doctest/doctest.h>

#include "chain/builder.hpp"
#include "chain/chain_file.hpp"
#include "chain/places.hpp"
#include "chain/recover.hpp"
#include "io/error.hpp"
#include "qcow2/seal.hpp"
#include "support/error_of.hpp"
#include "support/random_layer.hpp"

namespace dmchain::test {
namespace {

using qcow2::ChainOptions;

constexpr std::uint64_t cluster = 65536;

ChainOptions in_use() {
    ChainOptions o;
    o.in_use = true;
    return o;
}

// Layers of a disk of 8 clusters: base.qcow2, then those that are added, each with one cluster of its own.
class Stack {
public:
    Stack() { must("qemu-img create -q -f qcow2 " + (folder / "base.qcow2") + " 512K"); }

    void add(const std::string& name) {
        qcow2::make_active(folder / name, {8 * cluster, 16, 12, top});
        ActiveMaker m(folder.read(name), 16);
        const std::uint64_t at = m.grow();
        m.bytes.replace(at, cluster, cluster, static_cast<char>('1' + number));
        m.records({{number++, at, 0xffff}});
        layers.push_back(m);
        names.push_back(name);
        folder.write(name, m.bytes);
        top = name;
    }
    // Layer @i ends with the note that @by took over.
    void close(std::size_t i, const std::string& path, const std::string& id) {
        layers[i].close(id, path);
        folder.write(names[i], layers[i].bytes);
    }
    void close(std::size_t i) { close(i, folder / names[i + 1], layers[i + 1].id()); }

    Folder folder;
    std::vector<ActiveMaker> layers;
    std::vector<std::string> names;
    std::string top = "base.qcow2";
    std::uint64_t number = 0;
};

}  // namespace

TEST_CASE("the chain file of an active layer says where its log goes on and what is free") {
    for (std::uint64_t seed = 1; seed <= 10; seed++) {
        CAPTURE(seed);
        Folder folder;
        RandomLayerOptions o;
        o.operations = seed % 2 ? 20 : 400;
        RandomLayer layer(folder, "layer.qcow2", seed, o);
        const qcow2::Chain chain(layer.path, in_use());
        chain::BuildOptions options;
        options.active = true;
        const auto built = chain::build(chain, folder / "x.chain", options);
        const chain::ChainFile file{File(folder / "x.chain")};
        CHECK_NOTHROW(file.verify_index());
        CHECK_NOTHROW(chain::find_layers(file));
        const chain_super& s = file.super();
        const qcow2::Log& log = *chain.top().image()->log();
        CHECK(chain_le16(s.active) == 2);
        CHECK(chain_le32(s.next_id) == 3);
        CHECK(chain_le64(s.sectors) == layer.disk.size() / 512);
        CHECK(chain_le64(s.log_segment) == log.segments().back().offset);
        CHECK(chain_le64(s.log_segment_bytes) == log.segments().back().bytes);
        CHECK(chain_le64(s.log_next) == layer.maker().place());
        CHECK(chain_le64(s.log_sequence) == layer.maker().sequence);
        CHECK(chain_le32(s.log_epoch) == layer.maker().epoch);
        CHECK(chain_le64(s.alloc_next) % cluster == 0);
        CHECK(chain_le64(s.alloc_next) == log.end());
        CHECK(chain_le32(s.free_count) == 0);
        CHECK(chain_le32(s.state) == 0);
        CHECK(built.clusters == chain_le64(s.clusters));
        REQUIRE(file.active());
        CHECK(file.path(*file.active()) == layer.path);
        CHECK(chain_le32(file.active()->flags) == CHAIN_LAYER_UNSEALED);
        CHECK(chain_le32(file.layers()[0].flags) == 0);
    }
}

TEST_CASE("only an active layer with the index's clusters is taken for one") {
    Folder folder;
    RandomLayerOptions o;
    o.bits = 14;
    const RandomLayer layer(folder, "layer.qcow2", 2, o);
    chain::BuildOptions options;
    options.active = true;
    const auto build = [&](const std::string& path) {
        return error_of([&] { chain::build(qcow2::Chain(path, in_use()), folder / "x.chain", options); });
    };
    CHECK(build(layer.path) == layer.path +
                                   ": is an active layer with clusters of 16384 bytes, the index has clusters of 65536: make "
                                   "a plain qcow2 image of it with 'dmchain seal'");
    CHECK(build(folder / "base.qcow2") == (folder / "base.qcow2") + ": is no active layer");
    CHECK_FALSE(std::filesystem::exists(folder / "x.chain"));
}

TEST_CASE("layers that took over are followed") {
    Stack s;
    for (const char* name : {"a.qcow2", "b.qcow2", "c.qcow2"}) s.add(name);
    s.close(0);
    s.close(1);
    const chain::Top top = chain::find_top(s.folder / "a.qcow2", {});
    CHECK(top.path == s.folder / "c.qcow2");
    CHECK(top.passed == std::vector<std::string>{s.folder / "a.qcow2", s.folder / "b.qcow2"});
    CHECK(chain::find_top(s.folder / "c.qcow2", {}).passed.empty());
    {
        const qcow2::Chain chain(top.path, in_use());
        CHECK(chain.layers().size() == 4);
        CHECK_NOTHROW(chain::require_closed_logs(chain));
        chain::BuildOptions options;
        options.active = true;
        chain::build(chain, s.folder / "x.chain", options);
    }
    const chain::ChainFile file{File(s.folder / "x.chain")};
    CHECK(chain_le16(file.super().active) == 4);
    CHECK(chain_le64(file.super().clusters) == 3);
    for (std::size_t i = 1; i < 4; i++) CHECK(chain_le32(file.layers()[i].flags) == CHAIN_LAYER_UNSEALED);
    // Frozen layers may be sealed by now: that is not another file.
    for (const char* name : {"b.qcow2", "a.qcow2"}) {
        qcow2::seal(s.folder / name, {});
        CHECK_NOTHROW(chain::find_layers(file));
    }
    CHECK(must("qemu-img info --backing-chain " + (s.folder / "b.qcow2")).find("base.qcow2") != std::string::npos);

    SUBCASE("the folder moved") {
        std::filesystem::create_directory(s.folder / "new");
        s.add("d.qcow2");
        s.close(2, "/elsewhere/d.qcow2", s.layers[3].id());
        for (const char* name : {"c.qcow2", "d.qcow2"})
            std::filesystem::rename(s.folder / name, s.folder / (std::string("new/") + name));
        CHECK(chain::find_top(s.folder / "new/c.qcow2", {}).path == s.folder / "new/d.qcow2");
    }
    SUBCASE("it is gone") {
        s.close(2, "/elsewhere/d.qcow2", std::string(16, 'd'));
        CHECK(error_of([&] { chain::find_top(s.folder / "c.qcow2", {}); }) ==
              (s.folder / "c.qcow2") +
                  ": was frozen when '/elsewhere/d.qcow2' took over, which is not there: bring it back; if it is "
                  "lost, 'dmchain seal' makes a plain qcow2 image of the state before");
    }
    SUBCASE("it is another") {
        s.close(2, s.folder / "base.qcow2", std::string(16, 'd'));
        CHECK(error_of([&] { chain::find_top(s.folder / "c.qcow2", {}); }) ==
              (s.folder / "base.qcow2") + ": took over from " + (s.folder / "c.qcow2") +
                  " and is sealed: 'dmchain seal' the layers below, then make a device of it with 'dmchain create'");
        s.add("d.qcow2");
        s.layers[2] = ActiveMaker(s.folder.read("c.qcow2"), 16);
        s.layers[2].close(std::string(16, 'd'), s.folder / "d.qcow2");
        s.folder.write("c.qcow2", s.layers[2].bytes);
        CHECK(error_of([&] { chain::find_top(s.folder / "c.qcow2", {}); }) ==
              (s.folder / "d.qcow2") + ": is another layer than the one that took over from " + (s.folder / "c.qcow2") +
                  ": bring that back");
    }
    SUBCASE("it is outside the folder") {
        Folder other;
        other.write("d.qcow2", s.layers[2].bytes);
        s.close(2, other / "d.qcow2", s.layers[2].id());
        CHECK(error_of([&] { chain::find_top(s.folder / "c.qcow2", {}); })
                  .ends_with("use \"--allow " + other.path() + "\", or the line \"allow = " + other.path() +
                             "\" in /etc/dmchain.conf"));
        ChainOptions allowed;
        allowed.allow = {other.path()};
        CHECK(chain::find_top(s.folder / "c.qcow2", allowed).path == other / "d.qcow2");
    }
    SUBCASE("a loop") {
        s.close(2, s.folder / "c.qcow2", s.layers[2].id());
        CHECK(error_of([&] { chain::find_top(s.folder / "c.qcow2", {}); }) ==
              (s.folder / "c.qcow2") + ": layers that took over from each other are a loop");
    }
}

TEST_CASE("a layer below that may still be active is not built upon") {
    Stack s;
    s.add("a.qcow2");
    s.add("b.qcow2");
    CHECK(error_of([&] { chain::require_closed_logs(qcow2::Chain(s.folder / "b.qcow2", in_use())); }) ==
          (s.folder / "a.qcow2") +
              ": lies below the top of the chain, but no other layer took over from it: it may still be active; "
              "'dmchain recover' it instead, or 'dmchain seal' it first");
    qcow2::seal(s.folder / "a.qcow2", {});
    CHECK_NOTHROW(chain::require_closed_logs(qcow2::Chain(s.folder / "b.qcow2", in_use())));
    CHECK(error_of([&] { chain::find_top(s.folder / "a.qcow2", {}); }) ==
          (s.folder / "a.qcow2") + ": is a plain qcow2 image, no layer that is in use: 'dmchain create' makes a device of it");
}

TEST_CASE("recover: the command") {
    Stack s;
    s.add("a.qcow2");
    s.add("b.qcow2");
    s.close(0);
    const std::string text =
        "{0}/a.qcow2 was frozen, {0}/b.qcow2 took over\n"
        "{2}{1}: 512 KiB, 3 layers; the active one, {0}/b.qcow2, has 1 cluster in 1 block of its log\n";
    const std::string path = s.folder / "b.chain";
    Ran ran = run(dmchain() + " recover " + (s.folder / "a.qcow2") + " --dry-run");
    CHECK(ran.out == fmt::format(fmt::runtime(text), s.folder.path(), path, "would build "));
    CHECK_FALSE(std::filesystem::exists(path));
    ran = run(dmchain() + " recover " + (s.folder / "a.qcow2"));
    CHECK(ran.out == fmt::format(fmt::runtime(text), s.folder.path(), path, ""));
    CHECK(ran.status == 0);
    CHECK(chain_le16(chain::ChainFile(File(path)).super().active) == 3);
    ran = run(dmchain() + " table " + path);
    CHECK(ran.out == "0 1024 chain " + path + "\n");
    // By the chain file, in its place.
    ran = run(dmchain() + " recover --json " + path);
    CHECK(ran.status == 0);
    CHECK(ran.out.find("\"active_layer\": \"" + (s.folder / "b.qcow2") + "\"") != std::string::npos);
    ran = run(dmchain() + " recover --chain " + (s.folder / "y.chain") + " " + (s.folder / "b.qcow2"));
    CHECK(ran.status == 0);
    CHECK(chain::ChainFile(File(s.folder / "y.chain")).active());
    ran = run(dmchain() + " recover " + (s.folder / "base.qcow2"));
    CHECK(ran.status == 1);
    s.folder.write("b.chain", "precious");
    ran = run(dmchain() + " recover " + (s.folder / "b.qcow2"));
    CHECK(ran.out == "dmchain: " + path + ": exists and is not a chain file: move it away, or name another place with --chain\n");
    // Sealed, the chain file no longer fits.
    CHECK(run(dmchain() + " seal " + (s.folder / "a.qcow2") + " " + (s.folder / "b.qcow2")).status == 2);
    CHECK(run(dmchain() + " seal " + (s.folder / "b.qcow2")).out ==
          (s.folder / "b.qcow2") + ": sealed 1 cluster, 0 of them owned in part; 1 L2 table\n");
    CHECK(run(dmchain() + " seal " + (s.folder / "b.qcow2")).out == (s.folder / "b.qcow2") + ": is sealed already\n");
    ran = run(dmchain() + " table " + (s.folder / "y.chain"));
    CHECK(ran.out ==
          "dmchain: " + (s.folder / "y.chain") + ": its active layer " + (s.folder / "b.qcow2") +
              " was sealed since: if another layer took over from it, 'dmchain recover' that; otherwise 'dmchain create' "
              "makes a device of it\n");
}

}  // namespace dmchain::test
