// SPDX-License-Identifier: GPL-2.0-or-later
// Writes a sample chain file with its (sparse) layers to LAYERS and all its damaged variants to FOLDER, and
// prints a line for each: name, "load" or "read", and the message, separated by tabs. tests/target/refusals
// gives them to the target, and the fuzzer begins with them.
#include <fmt/format.h>

#include <exception>
#include <fstream>
#include <stdexcept>

#include "chain/sample.hpp"

int main(int argc, char** argv) {
    if (argc != 3) {
        fmt::print(stderr, "usage: mkdamaged FOLDER LAYERS\n");
        return 2;
    }
    try {
        const std::string folder = argv[1];
        const dmchain::test::Sample good(argv[2]);
        for (const auto& d : dmchain::test::chain_damages()) {
            dmchain::test::Sample s = good;
            d.damage(s);
            std::ofstream out(folder + "/" + d.name + ".chain", std::ios::binary);
            out.write(s.bytes.data(), static_cast<std::streamsize>(s.bytes.size()));
            if (!out.flush()) throw std::runtime_error("cannot write " + d.name);
            fmt::print("{}\t{}\t{}\n", d.name, d.met == dmchain::test::Met::load ? "load" : "read", d.message(s));
        }
    } catch (const std::exception& e) {
        fmt::print(stderr, "mkdamaged: {}\n", e.what());
        return 1;
    }
}
