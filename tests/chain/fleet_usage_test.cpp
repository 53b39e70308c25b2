// SPDX-License-Identifier: GPL-2.0-or-later
// What chains see of their layers, when a disk does not fit into the memory that is allowed: in parts, it comes out the same; and
// memory stays bounded.
#include "chain/fleet_usage.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "support/folder.hpp"

namespace dmchain::chain {
namespace {

using test::Folder;
using test::must;

// A base, and on it tops, with every second cluster of 64 KiB of a disk of 64 MiB in some layer.
void make(const Folder& folder) {
    std::string writes[4];
    for (int at = 0; at < 1024; at++)
        if (at % 2 == 0 || at % 7 == 0)
            writes[at % 4] += fmt::format(" -c 'write -q -P {} {}k {}k'", at % 250 + 1, at * 64, at % 3 ? 64 : 4);
    must("cd " + folder.path() + " && qemu-img create -q -f qcow2 base 64M && qemu-io -f qcow2" + writes[0] + writes[1] +
         " base");
    for (const char* top : {"one", "two"})
        must(fmt::format("cd {} && qemu-img create -q -f qcow2 -b base -F qcow2 {} && qemu-io -f qcow2 {} {}", folder.path(), top,
                         writes[*top == 'o' ? 2 : 0], top));
}

}  // namespace

TEST_CASE("fleet usage: in parts of the disk it is the same") {
    Folder folder;
    make(folder);
    Fleet whole = scan_fleet({.folders = {folder.path()}});
    Fleet parts = whole;
    const FleetUsage a = measure_fleet(whole, {.threads = 1});
    const FleetUsage b = measure_fleet(parts, {.threads = 1, .pieces_at_once = 40});
    REQUIRE(whole.damage.empty());
    REQUIRE(parts.damage.empty());
    REQUIRE(a.chains.size() == 2);
    for (std::size_t i = 0; i < 2; i++) {
        CHECK(a.chains[i].live_bytes > 0);
        CHECK(a.chains[i].live_bytes == b.chains[i].live_bytes);
        CHECK(a.chains[i].live_by_depth == b.chains[i].live_by_depth);
        CHECK(a.chains[i].virtual_bytes == b.chains[i].virtual_bytes);
    }
    std::uint64_t wasted = 0;
    for (std::size_t i = 0; i < a.layers.size(); i++) {
        CHECK(a.layers[i].stored_bytes == b.layers[i].stored_bytes);
        CHECK(a.layers[i].wasted_bytes == b.layers[i].wasted_bytes);
        CHECK(a.layers[i].virtual_bytes == 64 << 20);
        wasted += a.layers[i].wasted_bytes;
    }
    // "one" sees all of the base, so nothing of that is wasted.
    CHECK(wasted == 0);
}

}  // namespace dmchain::chain
