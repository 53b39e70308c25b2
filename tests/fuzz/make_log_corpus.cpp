// SPDX-License-Identifier: GPL-2.0-or-later
// Writes the seeds of fuzz_log: small layers in use without their header. Usage: make_log_corpus FOLDER
#include <cstdio>
#include <exception>
#include <filesystem>

#include "qcow2/active.hpp"
#include "support/active_maker.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 2) return 2;
    try {
        std::filesystem::create_directories(argv[1]);
        const test::Folder folder;
        qcow2::make_active(folder / "layer", {64 * 4096, 12, 9, "base.raw", "raw"});
        int n = 0;
        const auto seed = [&](auto&& fill) {
            // The first segment is made small: what is not there cannot be said.
            std::string bytes = folder.read("layer").substr(0, 5 * 4096);
            const std::uint64_t length = htole64(std::uint64_t{4 * 4096});
            std::memcpy(&bytes[4096 + 40], &length, 8);
            test::ActiveMaker m(bytes, 12);
            m.sum_head();
            fill(m);
            std::ofstream out(std::string(argv[1]) + "/seed" + std::to_string(n++), std::ios::binary);
            out << m.bytes.substr(4096);
            if (!out.flush()) throw std::runtime_error("cannot write the corpus");
        };
        seed([](test::ActiveMaker&) {});
        seed([](test::ActiveMaker& m) {
            const std::uint64_t a = m.grow(), b = m.grow();
            m.records({{1, a, 0xff}, {2, b, 1 | 2ull << 32}, {3, 0, 0xffull << 32}});
            m.records({{1, 0, 0}, {4, a, 0x0f}});
        });
        seed([](test::ActiveMaker& m) {
            const std::uint64_t s = m.grow(4);
            m.next(s, 4 * 4096);
            m.resize(70 * 8 + 3);
            m.records({{69, m.grow(), 3}, {70, 0, 1ull << 32}});
            m.close(std::string(16, 'u'), "/next");
        });
    } catch (const std::exception& e) {
        std::fprintf(stderr, "make_log_corpus: %s\n", e.what());
        return 1;
    }
    return 0;
}
