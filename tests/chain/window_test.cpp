// SPDX-License-Identifier: GPL-2.0-or-later
// Laying layers over one another in a window, and the nodes that come of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "chain/format.hpp"
#include "chain/nodes.hpp"
#include "chain/window.hpp"

namespace dmchain::test {

using chain::Geometry;
using chain::NodeBuilder;
using chain::Window;
using qcow2::Kind;

namespace {

constexpr std::uint64_t cluster = 65536;

std::uint64_t data(unsigned layer, std::uint64_t byte) { return chain_entry(CHAIN_DATA, layer, byte >> 9); }

}  // namespace

TEST_CASE("an upper layer covers a lower one, cluster by cluster") {
    Window w({100 * cluster, 16, 12});
    w.clear(0);
    CHECK(w.used() == 100);
    w.apply({0, 10 * cluster, Kind::data, 1 << 20, 0}, 1);
    w.apply({2 * cluster, cluster, Kind::data, 0x50000, 0}, 2);
    w.apply({3 * cluster, cluster, Kind::zero, 0, 0}, 3);
    w.settle();
    CHECK(w.entry(1) == data(1, (1 << 20) + cluster));
    CHECK(w.entry(2) == data(2, 0x50000));
    CHECK(w.entry(3) == chain_entry(CHAIN_ZERO, 3, 0));
    CHECK(w.entry(4) == data(1, (1 << 20) + 4 * cluster));
    CHECK(w.entry(10) == CHAIN_HOLE);
}

TEST_CASE("a cluster with two owners is fine, and plain again where they agree") {
    Window w({100 * cluster, 16, 12});
    w.clear(0);
    w.apply({0, 2 * cluster, Kind::data, 1 << 20, 0}, 1);
    w.apply({4096, 8192, Kind::data, 0x30000, 0}, 2);
    w.apply({cluster, 4096, Kind::data, 0x40000, 0}, 2);
    w.apply({cluster, 4096, Kind::data, (1 << 20) + cluster, 0}, 1);
    w.settle();
    REQUIRE(chain_entry_kind(w.entry(0)) == CHAIN_FINE);
    const std::uint64_t* fine = w.fine(w.entry(0));
    CHECK(fine[0] == data(1, 1 << 20));
    CHECK(fine[1] == data(2, 0x30000));
    CHECK(fine[2] == data(2, 0x31000));
    CHECK(fine[3] == data(1, (1 << 20) + 3 * 4096));
    CHECK(w.entry(1) == data(1, (1 << 20) + cluster));
}

TEST_CASE("a short layer ends what lies below it") {
    Window w({100 * cluster, 16, 12});
    w.clear(0);
    w.apply({0, 100 * cluster, Kind::data, 0, 0}, 1);
    w.cut(5 * cluster + 4096);
    w.settle();
    CHECK(w.entry(4) == data(1, 4 * cluster));
    REQUIRE(chain_entry_kind(w.entry(5)) == CHAIN_FINE);
    CHECK(w.fine(w.entry(5))[0] == data(1, 5 * cluster));
    CHECK(w.fine(w.entry(5))[1] == CHAIN_HOLE);
    CHECK(w.entry(6) == CHAIN_HOLE);
    CHECK(w.entry(99) == CHAIN_HOLE);
}

TEST_CASE("what reaches the end of the disk fills its last cluster, and nothing names a place past the end") {
    Window w({2 * cluster + 8192, 16, 12});
    w.clear(0);
    CHECK(w.used() == 3);
    CHECK(w.end() == 2 * cluster + 8192);
    w.apply({2 * cluster, 8192, Kind::data, 1 << 20, 0}, 1);
    SUBCASE("one owner: plain") {
        w.settle();
        CHECK(w.entry(2) == data(1, 1 << 20));
    }
    SUBCASE("two owners: fine, holes behind the end") {
        w.apply({2 * cluster, 4096, Kind::data, 0, 0}, 2);
        w.settle();
        REQUIRE(chain_entry_kind(w.entry(2)) == CHAIN_FINE);
        const std::uint64_t* fine = w.fine(w.entry(2));
        CHECK(fine[0] == data(2, 0));
        CHECK(fine[1] == data(1, (1 << 20) + 4096));
        for (int i = 2; i < 16; i++) CHECK(fine[i] == CHAIN_HOLE);
    }
}

TEST_CASE("a leaf that is one range is known as such, until something else lies in it") {
    constexpr std::uint64_t leaf = CHAIN_FANOUT * cluster;
    Window w({3 * leaf + 5 * cluster, 16, 12});
    w.clear(0);
    CHECK(w.whole(0) == CHAIN_HOLE);
    w.apply({cluster, 2 * leaf - cluster, Kind::data, cluster, 0}, 1);
    CHECK(w.whole(0) == 0);
    CHECK(w.entry(0) == CHAIN_HOLE);
    CHECK(w.entry(1) == data(1, cluster));
    CHECK(w.whole(1) == data(1, leaf));
    CHECK(w.entry(CHAIN_FANOUT + 7) == data(1, leaf + 7 * cluster));
    w.apply({leaf + 9 * cluster, 4096, Kind::data, 1 << 30, 0}, 2);
    CHECK(w.whole(1) == 0);
    w.apply({0, 3 * leaf + 5 * cluster, Kind::data, leaf, 0}, 3);
    CHECK(w.whole(1) == data(3, 2 * leaf));
    CHECK(w.whole(3) == 0);
    w.apply({leaf, 4096, Kind::zero, 0, 0}, 4);
    w.apply({leaf, 4096, Kind::data, 2 * leaf, 0}, 3);
    w.settle();
    CHECK(w.entry(CHAIN_FANOUT) == data(3, 2 * leaf));
    CHECK(w.entry(3 * CHAIN_FANOUT + 4) == data(3, 4 * leaf + 4 * cluster));
    CHECK(w.entry(3 * CHAIN_FANOUT + 5) == CHAIN_HOLE);
}

TEST_CASE("a node whose children are one piece is an entry of its parent") {
    const Geometry g{1024 * cluster, 16, 12};
    std::vector<std::uint64_t> entries(CHAIN_FANOUT);
    for (std::size_t i = 0; i < entries.size(); i++) entries[i] = data(3, (1 << 20) + i * cluster);
    NodeBuilder node(0, 0, cluster >> 9, g, nullptr);
    CHECK(node.whole(entries.data(), entries.size()) == data(3, 1 << 20));
    entries[511] = data(3, 0);
    CHECK(node.whole(entries.data(), entries.size()) == 0);
    CHECK(node.whole(entries.data(), 511) == data(3, 1 << 20));
    std::fill(entries.begin(), entries.end(), chain_entry(CHAIN_ZERO, 2, 0));
    CHECK(node.whole(entries.data(), entries.size()) == chain_entry(CHAIN_ZERO, 2, 0));
}

TEST_CASE("few runs are written as runs, many as an array, and both pass the validator") {
    const Geometry g{1024 * cluster, 16, 12};
    const std::uint64_t layer_bytes[] = {0, 1ull << 40};
    chain_geometry geometry{};
    geometry.sectors = g.bytes >> 9;
    geometry.clusters = g.clusters();
    geometry.cluster_shift = 16;
    geometry.subblock_shift = 12;
    geometry.ids = 2;
    geometry.layer_bytes = reinterpret_cast<const __u64*>(layer_bytes);
    for (const std::size_t run : {512u, 256u, 8u, 2u, 1u}) {
        CAPTURE(run);
        std::vector<std::uint64_t> entries(CHAIN_FANOUT);
        for (std::size_t i = 0; i < entries.size(); i++) entries[i] = data(1, (i / run * 2 * run + i % run) * cluster);
        NodeBuilder node(0, 512, cluster >> 9, g, nullptr);
        std::vector<std::byte> out;
        const std::uint32_t bytes = node.append(entries.data(), entries.size(), out);
        CHECK(bytes == out.size());
        CHECK(bytes % 512 == 0);
        chain_node head;
        std::memcpy(&head, out.data(), sizeof head);
        const std::size_t runs = CHAIN_FANOUT / run;
        CHECK(head.form == (runs <= chain::max_runs ? CHAIN_FORM_RUNS : CHAIN_FORM_ARRAY));
        chain_fault fault{};
        CHECK(chain_check_node(&geometry, out.data(), bytes, 0, 512, &fault));
        CHECK_FALSE(chain_check_node(&geometry, out.data(), bytes, 0, 0, &fault));
        CHECK(fault.what == std::string("first cluster of a node"));
    }
}

}  // namespace dmchain::test
