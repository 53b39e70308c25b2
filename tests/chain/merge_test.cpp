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

TEST_CASE("clusters whose data are all zero are not stored") {
    Folder folder;
    // One cluster of each: data, zeroes over data, zeroes with data beside them; of another layer, and of the same.
    must("cd " + folder.path() + " && qemu-img create -q -f qcow2 a 8M && qemu-io -c 'write -q -P 1 1M 512k' a" +
         " && qemu-img create -q -f qcow2 -o extended_l2=on -b a -F qcow2 b" +
         " && qemu-io -c 'write -q -P 0 1M 128k' -c 'write -q -P 0 1184k 4k' -c 'write -q -P 0 1280k 4k' -c 'write -q -P 2 1284k "
         "4k'" +
         " -c 'write -q -P 0 4M 300k' b");
    const qcow2::Chain range(folder / "b", {});
    for (const bool flat : {false, true}) {
        CAPTURE(flat);
        const std::string path = folder / (flat ? "flat" : "merged");
        REQUIRE(merge(range, measure(range, flat), {.path = path, .flat = flat}, [](std::uint64_t) {}));
        require_same(range, path);
        must("qemu-img check -q -f qcow2 " + path);
        must("qemu-img compare -q " + (folder / "b") + " " + path);
        // What is left of the data: 512 KiB but for two clusters.
        qcow2::ChainOptions o;
        o.depth = 1;
        const qcow2::Chain merged(path, o);
        qcow2::Scratch scratch;
        std::uint64_t data = 0, zero = 0;
        merged.top().map(0, 8u << 20, scratch, [&](const qcow2::Extent& x) {
            if (x.kind == qcow2::Kind::data) data += x.bytes;
            if (x.kind == qcow2::Kind::zero) zero += x.bytes;
        });
        CHECK(data == (384u << 10));
        CHECK(zero == (flat ? 0 : (128u << 10) + (300u << 10)));
    }
}

}  // namespace dmchain::test
