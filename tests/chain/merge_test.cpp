// SPDX-License-Identifier: GPL-2.0-or-later
// A merged file is what the layers were, and one that is not is found out.
#include <doctest/doctest.h>

#include "chain/merge.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

namespace dmchain::test {

using namespace dmchain::chain;

TEST_CASE("a merged file is compared with the layers") {
    Folder folder;
    must("cd " + folder.path() + " && qemu-img create -q -f qcow2 a 8M && qemu-io -c 'write -q -P 1 1M 3M' a" +
         " && qemu-img create -q -f qcow2 -b a -F qcow2 b && qemu-io -c 'write -q -P 2 2M 900k' -c 'write -q -z 5M 1M' b");
    {
        const qcow2::Chain range(folder / "b", {});
        std::uint64_t done = 0;
        CHECK(merge(range, measure(range), {.path = folder / "merged"}, [&](std::uint64_t n) { done = n; }));
        CHECK(done == measure(range).bytes);
        CHECK_NOTHROW(require_same(range, folder / "merged"));
    }
    must("qemu-img compare -q " + (folder / "b") + " " + (folder / "merged"));
    must("qemu-io -f qcow2 -c 'write -q -P 9 3M 512' " + (folder / "merged"));
    const qcow2::Chain range(folder / "b", {});
    CHECK_THROWS_WITH_AS(require_same(range, folder / "merged"), doctest::Contains("byte 3145728 of the disk is not what"),
                         Error);
}

TEST_CASE("a merge that is told to stop goes on where it was, and not in what another one left") {
    Folder folder;
    must("cd " + folder.path() + " && qemu-img create -q -f qcow2 a 16M && qemu-io -c 'write -q -P 1 1M 9M' a");
    const qcow2::Chain range(folder / "a", {});
    const MergeSize size = measure(range);
    MergeTo to{.path = folder / "merged"};
    to.goes_on = true;
    to.rate = 64u << 20;
    int stops = 0;
    std::uint64_t first = 0, copied = 0;
    for (bool done = false; !done; stops++) {
        REQUIRE(stops < 20);
        int asked = 0;
        to.stop = [&] { return ++asked > 50; };  // clusters
        first = ~std::uint64_t{0};
        done = merge(range, size, to, [&](std::uint64_t n) { first = std::min(first, n), copied = n; });
        // Not from the beginning again.
        if (stops) CHECK(first > stops * (50u << 16));
    }
    CHECK(stops == 3);
    CHECK(copied == size.bytes);
    require_same(range, to.path);
    must("qemu-img check -q -f qcow2 " + to.path);
    // It is there: nothing is left to do, and it is not taken for another disk's.
    CHECK(merge(range, size, to, [](std::uint64_t) { FAIL("copied again"); }));
}

}  // namespace dmchain::test
