// SPDX-License-Identifier: GPL-2.0-or-later
// make_stream_corpus FOLDER: seeds for fuzz_stream.
#include <filesystem>
#include <fstream>

#include "replica/manifest.hpp"
#include "support/core_maker.hpp"
#include "support/folder.hpp"
#include "support/state_maker.hpp"
#include "support/stream_maker.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 2) return 2;
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    using Maker = test::StreamMaker;
    const std::string stream = Maker::small().bytes;
    const auto seed = [&](const char* name, char kind, const std::string& bytes) {
        std::ofstream(folder / name, std::ios::binary) << kind << bytes;
    };
    seed("stream", 's', stream);
    seed("mapped", 's', Maker::small_mapped("", 4096).bytes);
    seed("saved", 's', Maker::libvirt_header(0) + stream);
    seed("sparse", 's', Maker::small_mapped(Maker::libvirt_header(6), 4096).bytes);
    seed("core", 's',
         test::CoreMaker().note("n").memory(0, 3, 'a').memory(0xfffff000, 1, 'f').memory(1ull << 32, 1, 'h').bytes());
    seed("state", 'q', test::StateMaker(stream).bytes());

    replica::Manifest m;
    m.name = "one";
    m.blocks = {{"pc.ram", 64 * 4096}};
    m.folders = {"/a"};
    m.pieces.push_back({{}, 1, replica::Piece::no_disk, 8192});
    m.runs.push_back({replica::Run::Kind::head, guest::Class::unknown, 0, 0, 0, 0, 0});
    m.runs.push_back({replica::Run::Kind::zero, guest::Class::slab, 0, 0, 4, 0, 0});
    m.runs.push_back({replica::Run::Kind::piece, guest::Class::slab, 0, 4, 2, 0, 0});
    m.form = guest::Form::mapped_ram;
    const std::vector<unsigned char> mapped = m.pack();
    seed("manifest-mapped", 'm', std::string(mapped.begin(), mapped.end()));
    m.form = guest::Form::stream;
    const std::vector<unsigned char> packed = m.pack();
    seed("manifest", 'm', std::string(packed.begin(), packed.end()));
    m.blocks = {{"disk", 64 * 4096}};
    m.runs.erase(m.runs.begin());
    m.runs[0].kind = replica::Run::Kind::unused;
    const std::string id(32, 'a'), below(32, 'b');
    m.layer = replica::DiskLayer{id, below, 64 * 4096, "top.qcow2", qcow2::Label{1, "monday", "note"}};
    m.name = m.layer->name();
    const std::vector<unsigned char> layer = m.pack();
    seed("manifest-layer", 'm', std::string(layer.begin(), layer.end()));

    const std::string disk = folder.string() + "-disk";
    if (!test::run("rm -f '" + disk + "' && truncate -s 72K '" + disk +
                   "' && mke2fs -q -F -t ext4 -b 1024 -N 16 -O ^has_journal '" + disk + "'")
             .out.empty())
        return 1;
    seed("disk", 'd', test::read_file(disk));
    return 0;
}
