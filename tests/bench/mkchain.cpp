// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a chain file over one block device, for the benchmarks of the target alone: every cluster of the
// disk in a random layer at a random place, all layers being the device (which is null_blk: what is read does not
// matter). With --ordered, one layer in order.
//
//     mkchain FILE DEVICE DEPTH BYTES [--ordered]
#include <endian.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <random>
#include <string>

#include "chain/writer.hpp"
#include "io/file.hpp"

using namespace dmchain;

namespace {

chain::LayerTable device_layers(const File& device, unsigned depth) {
    chain::LayerTable t;
    t.strings = device.path() + '\0';
    for (unsigned i = 1; i <= depth; i++) {
        chain_layer r{};
        r.id = htole16(static_cast<std::uint16_t>(i));
        r.type = CHAIN_LAYER_DEVICE;
        r.format = CHAIN_FORMAT_RAW;
        r.owner = htole16(CHAIN_NO_LAYER);
        r.bytes = htole64(device.size());
        r.path_bytes = htole16(static_cast<std::uint16_t>(device.path().size()));
        t.records.push_back(r);
    }
    return t;
}

void run(const std::string& path, const File& device, unsigned depth, std::uint64_t bytes, bool ordered) {
    const chain::Geometry geometry{bytes, 16, 12};
    chain::LayerTable layers = device_layers(device, depth);
    chain::Writer writer(path, geometry, layers);
    chain::Window window(geometry);
    std::vector<std::byte> buffer;
    std::mt19937_64 random(depth);
    std::vector<std::uint64_t> place(geometry.clusters());
    std::iota(place.begin(), place.end(), 0);
    if (!ordered) std::shuffle(place.begin(), place.end(), random);
    for (std::uint64_t w = 0; w < writer.windows(); w++) {
        window.clear(w * chain::Window::cells);
        for (std::uint64_t c = window.first(); c < window.first() + window.used(); c++)
            window.apply({c << 16, 1u << 16, qcow2::Kind::data, place[c] << 16, 0},
                         ordered ? 1 : 1 + static_cast<unsigned>(random() % depth));
        window.settle();
        writer.add(window, buffer);
    }
    writer.finish();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) {
        fmt::print(stderr, "usage: mkchain FILE DEVICE DEPTH BYTES [--ordered]\n");
        return 2;
    }
    try {
        run(argv[1], File(argv[2]), static_cast<unsigned>(std::atoi(argv[3])), std::strtoull(argv[4], nullptr, 10),
            argc > 5 && !std::strcmp(argv[5], "--ordered"));
    } catch (const std::exception& e) {
        fmt::print(stderr, "mkchain: {}\n", e.what());
        return 1;
    }
}
