// SPDX-License-Identifier: GPL-2.0-or-later
// Writes the seeds of fuzz_image: small good images, one for each feature. Usage: make_corpus FOLDER
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/image_maker.hpp"

int main(int argc, char** argv) {
    using dmchain::test::Maker;
    using dmchain::test::MakerOptions;
    if (argc != 2) return 2;
    const MakerOptions all[] = {
        {},
        {.cluster_bits = 9},
        {.version = 2, .cluster_bits = 9},
        {.cluster_bits = 14, .extended_l2 = true},
        {.cluster_bits = 9, .data_file = "data.raw"},
        {.cluster_bits = 9, .data_file = "data.raw", .data_file_raw = true},
        {.cluster_bits = 9, .snapshot = true},
        {.cluster_bits = 12, .backing = "base.qcow2", .backing_format = "qcow2"},
        {.cluster_bits = 12, .backing = R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}})"},
        {.cluster_bits = 12,
         .backing = R"(json:{"driver":"raw","offset":1536,"file":{"driver":"raw","size":51200,"file.filename":"data.raw"}})"},
        {.cluster_bits = 12, .backing = R"(json:{"backing":null,"file":{"filename":"base.qcow2"}})"},
        {.cluster_bits = 12, .backing = "data.raw", .backing_format = "raw"},
    };
    try {
        std::filesystem::create_directories(argv[1]);
        int n = 0;
        for (const MakerOptions& o : all)
            for (char choice : {0, 7}) {
                std::ofstream out(std::string(argv[1]) + "/seed" + std::to_string(n++), std::ios::binary);
                out << Maker(o).bytes << choice;
                if (!out.flush()) throw std::runtime_error("cannot write the corpus");
            }
    } catch (const std::exception& e) {
        std::fprintf(stderr, "make_corpus: %s\n", e.what());
        return 1;
    }
    return 0;
}
