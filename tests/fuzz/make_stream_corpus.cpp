// SPDX-License-Identifier: GPL-2.0-or-later
// make_stream_corpus FOLDER: seeds for fuzz_stream.
#include <filesystem>
#include <fstream>

#include "replica/manifest.hpp"
#include "support/stream_maker.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 2) return 2;
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "stream", std::ios::binary) << 's' << test::StreamMaker::small().bytes;

    replica::Manifest m;
    m.name = "one";
    m.blocks = {{"pc.ram", 64 * 4096}};
    m.folders = {"/a"};
    m.pieces.push_back({{}, 1, replica::Piece::no_disk, 8192});
    m.runs.push_back({replica::Run::Kind::head, guest::Class::unknown, 0, 0, 0, 0, 0});
    m.runs.push_back({replica::Run::Kind::zero, guest::Class::slab, 0, 0, 4, 0, 0});
    m.runs.push_back({replica::Run::Kind::piece, guest::Class::slab, 0, 4, 2, 0, 0});
    const std::vector<unsigned char> packed = m.pack();
    std::ofstream(folder / "manifest", std::ios::binary) << 'm' << std::string(packed.begin(), packed.end());
    return 0;
}
