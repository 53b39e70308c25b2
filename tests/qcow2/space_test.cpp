// SPDX-License-Identifier: GPL-2.0-or-later
// What snapshots take: beside a count unit by unit over random chains of layers of many kinds.
#include <doctest/doctest.h>

#include <map>

#include "qcow2/space.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

namespace dmchain::test {
namespace {

using namespace dmchain::qcow2;

// Sector by sector, from what the layers' own maps say.
std::vector<Space> count(const Chain& chain) {
    const std::size_t sectors = chain.virtual_size() / 512, depth = chain.layers().size();
    std::vector<Space> out(depth);
    std::vector<std::size_t> owner(sectors);  // number of the layer + 1; 0: no data
    Scratch scratch;
    for (std::size_t i = 0; i < depth; i++) {
        const Layer& layer = *chain.layers()[i];
        std::map<std::size_t, bool> defined;  // sector: whether it is data
        layer.map(0, chain.virtual_size(), scratch, [&](const Extent& e) {
            for (std::size_t s = e.guest / 512; s < (e.guest + e.bytes) / 512; s++) defined[s] = e.kind != Kind::zero;
        });
        for (std::size_t s = layer.virtual_size() / 512; s < sectors; s++) defined[s] = false;
        for (const auto& [s, data] : defined) {
            if (i && owner[s] == i) out[i - 1].unique += 512;
            owner[s] = data ? i + 1 : 0;
            out[i].written += data * 512u;
        }
        for (const std::size_t o : owner) out[i].referenced += (o != 0) * 512u;
    }
    return out;
}

}  // namespace

TEST_CASE("written, referenced and unique bytes are those that a count finds") {
    for (unsigned seed = 1; seed <= 8; seed++) {
        CAPTURE(seed);
        Folder folder;
        std::string below;
        std::srand(seed);
        for (int i = 0; i < 9; i++) {
            const std::string path = folder / ("l" + std::to_string(i) + ".qcow2");
            const std::string options = std::rand() % 3 ? "" : " -o extended_l2=on,cluster_size=128k";
            const int size = 8 + std::rand() % 5 * (seed % 2 ? 1 : 0);  // MiB; shorter ones and longer ones
            must("qemu-img create -q -f qcow2" + options + (below.empty() ? "" : " -F qcow2 -b " + below) + " " + path + " " +
                 std::to_string(size) + "M");
            std::string writes;
            for (int k = 0; k < 12; k++) {
                const int at = std::rand() % (size * 256 - 200), n = 1 + std::rand() % (k % 4 ? 12 : 190);
                writes += std::string(" -c 'write -q ") + (std::rand() % 4 ? "" : "-z ") + std::to_string(at * 4) + "k " +
                          std::to_string(n * 4) + "k'";
            }
            must("qemu-io -f qcow2" + writes + " " + path);
            below = path;
        }
        const Chain chain(below, {});
        const std::vector<Space> want = count(chain);
        std::uint64_t reported = 0;
        const std::vector<Space> is = measure_space(chain, [&](std::uint64_t n) { reported += n; });
        REQUIRE(is.size() == want.size());
        std::uint64_t unique = 0;
        for (std::size_t i = 0; i < is.size(); i++) {
            CAPTURE(i);
            CHECK(is[i].written == want[i].written);
            CHECK(is[i].referenced == want[i].referenced);
            CHECK(is[i].unique == want[i].unique);
            unique += is[i].unique;
        }
        CHECK(unique > 0);
        CHECK(reported <= chain.virtual_size());
    }
}

}  // namespace dmchain::test
