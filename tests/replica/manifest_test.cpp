// SPDX-License-Identifier: GPL-2.0-or-later
// Manifests: what is packed is unpacked, and nothing else is.
#include "replica/manifest.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>

#include "io/error.hpp"

namespace dmchain::replica {
namespace {

Manifest sample() {
    Manifest m;
    m.name = "one";
    m.created = 1700000000;
    m.machine = "pc-q35-7.2";
    m.kernel = "6.1";
    m.ram_section = 2;
    m.blocks = {{"pc.ram", 64 * 4096}, {"pc.bios", 4096}};
    m.folders = {"/a", "/b", "/c"};
    m.disk = Disk{"/vm/base.qcow2", "0123"};
    m.pieces.resize(3);
    m.pieces[0] = {digest_of("x", 1), 0b111, Piece::no_disk, 100};
    m.pieces[1] = {digest_of("y", 1), 0b010, Piece::no_disk, 4 * 4096};
    m.pieces[2] = {digest_of("z", 1), 0, 1 << 20, 2 * 4096};
    m.runs = {
        {Run::Kind::head, guest::Class::unknown, 0, 0, 0, 0, 0},  {Run::Kind::zero, guest::Class::free, 0, 0, 10, 0, 0},
        {Run::Kind::piece, guest::Class::slab, 0, 10, 3, 1, 1},   {Run::Kind::piece, guest::Class::file_clean, 0, 20, 2, 2, 0},
        {Run::Kind::unused, guest::Class::free, 0, 30, 34, 0, 0}, {Run::Kind::piece, guest::Class::device, 1, 0, 1, 1, 0},
        {Run::Kind::tail, guest::Class::unknown, 0, 0, 0, 0, 0}};
    return m;
}

std::string refused(const std::vector<unsigned char>& bytes, Exit code = Exit::damaged) {
    try {
        Manifest::unpack(bytes, "it");
    } catch (const Error& e) {
        CHECK(e.code() == code);
        return e.what();
    }
    return "read";
}

// After @change, with the checksum that belongs to it.
std::string refused_after(const std::function<void(Manifest&)>& change) {
    Manifest m = sample();
    change(m);
    return refused(m.pack());
}

}  // namespace

TEST_CASE("manifest: what is packed is unpacked") {
    const std::vector<unsigned char> bytes = sample().pack();
    const Manifest m = Manifest::unpack(bytes, "it");
    CHECK(m.pack() == bytes);
    CHECK(m.name == "one");
    CHECK(m.blocks[1].name == "pc.bios");
    CHECK(m.pieces[2].disk == 1 << 20);
    CHECK(m.runs[2].at == 1);
    CHECK(m.disk->snapshot == "/vm/base.qcow2");
    CHECK(m.kernel == "6.1");
}

TEST_CASE("manifest: a layer, and a snapshot that has layers, have the third version") {
    const std::string id(32, 'a'), below = "0123456789abcdef0123456789abcdef";
    Manifest m = sample();
    m.layers = {below + "-0", id + "-" + below};
    const Manifest with = Manifest::unpack(m.pack(), "it");
    CHECK(m.pack()[8] == 3);
    CHECK(with.layers == m.layers);
    CHECK(with.has_memory());
    CHECK(refused_after([](Manifest& x) { x.layers = {"../../etc/passwd"}; }).find("it has a layer") != std::string::npos);

    Manifest layer;
    layer.layer = DiskLayer{id, below, 10 * 4096 - 512, "top.qcow2", qcow2::Label{1700000000, "monday", "a note", true}};
    layer.name = layer.layer->name();
    layer.blocks = {{"disk", 10 * 4096}};
    layer.folders = {"/a"};
    layer.pieces = {{digest_of("x", 1), 1, Piece::no_disk, 2 * 4096}};
    layer.runs = {{Run::Kind::piece, guest::Class::unknown, 0, 0, 2, 0, 0},
                  {Run::Kind::zero, guest::Class::unknown, 0, 3, 1, 0, 0},
                  {Run::Kind::unused, guest::Class::unknown, 0, 4, 6, 0, 0}};
    CHECK(layer.name == id + "-" + below);
    CHECK(layer.pack()[8] == 3);
    const Manifest n = Manifest::unpack(layer.pack(), "it");
    CHECK(n.pack() == layer.pack());
    CHECK(!n.has_memory());
    CHECK(n.layer->label->note == "a note");
    CHECK(n.layer->label->pruned);
    const auto wrong = [&](const std::function<void(Manifest&)>& change) {
        Manifest x = layer;
        change(x);
        CHECK(refused(x.pack()).find("cannot be") != std::string::npos);
    };
    wrong([](Manifest& x) { x.layer->bytes = 9 * 4096; });
    wrong([](Manifest& x) { x.layer->bytes -= 1; });
    wrong([](Manifest& x) { x.layer->file = "../top"; });
    wrong([](Manifest& x) { x.layer->file = ""; });
    wrong([](Manifest& x) { x.layer->id = "short"; });
    wrong([](Manifest& x) { x.layer->below = ""; });
    wrong([](Manifest& x) { x.layer->label->name = std::string(64, 'x'); });
    wrong([](Manifest& x) { x.runs[0].kind = Run::Kind::head; });
    wrong([](Manifest& x) { x.blocks.push_back(x.blocks[0]); });
    wrong([](Manifest& x) { x.layers = {x.name}; });
}

TEST_CASE("manifest: what is no stream has its form, and the second version") {
    Manifest m = sample();
    CHECK(m.pack()[8] == 1);
    m.form = guest::Form::mapped_ram;
    m.blocks[1].pages_at = 7 << 20;
    m.blocks[1].bitmap_at = 1234;
    m.runs[0].page = 77;
    const std::vector<unsigned char> bytes = m.pack();
    CHECK(bytes[8] == 2);
    const Manifest n = Manifest::unpack(bytes, "it");
    CHECK(n.pack() == bytes);
    CHECK(n.form == guest::Form::mapped_ram);
    CHECK(n.blocks[1].pages_at == 7 << 20);
    CHECK(n.blocks[1].bitmap_at == 1234);
    CHECK(n.runs[0].page == 77);
    CHECK(refused_after([](Manifest& c) { c.form = guest::Form::core; }) == "it: is in the form \"core\", which is not known");
    CHECK(refused_after([](Manifest& c) {
              c.form = guest::Form::mapped_ram;
              c.blocks[0].pages_at = ~std::uint64_t{0};
          }) == "it: block 'pc.ram' has 262144 bytes, which cannot be");
    CHECK(refused_after([](Manifest& c) { c.runs[0].page = ~std::uint64_t{0}; }) != "read");
}

TEST_CASE("manifest: cut off, or with a bit flipped, it is refused") {
    const std::vector<unsigned char> bytes = sample().pack();
    for (std::size_t n = 0; n < bytes.size(); n++)
        CHECK(refused({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)}) != "read");
    for (std::size_t at = 0; at < bytes.size(); at++)
        for (int bit = 0; bit < 8; bit++) {
            std::vector<unsigned char> wrong = bytes;
            wrong[at] = static_cast<unsigned char>(wrong[at] ^ 1 << bit);
            // The version is looked at first; with another one that there is (3), the checksum is wrong.
            CHECK(refused(wrong, at >= 8 && at < 12 && !(at == 8 && bit == 1) ? Exit::failed : Exit::damaged) != "read");
        }
}

TEST_CASE("manifest: with a right checksum, but what cannot be, it is refused") {
    CHECK(refused_after([](Manifest&) {}) == "read");
    CHECK(refused_after([](Manifest& m) { m.folders.clear(); }) == "it: it names 0 folders, which cannot be");
    CHECK(refused_after([](Manifest& m) { m.blocks[0].bytes++; }) == "it: block 'pc.ram' has 262145 bytes, which cannot be");
    CHECK(refused_after([](Manifest& m) { m.pieces[0].bytes = 0; }) ==
          "it: piece 0 has 0 bytes, folders 0x7, and is at 0xffffffffffffffff of the disk, which cannot be");
    CHECK(refused_after([](Manifest& m) { m.pieces[0].bytes = most_piece + 1; }) != "read");
    CHECK(refused_after([](Manifest& m) { m.pieces[0].folders = 8; }) != "read");
    CHECK(refused_after([](Manifest& m) { m.pieces[0].folders = 0; }) != "read");
    CHECK(refused_after([](Manifest& m) { m.disk.reset(); }) != "read");
    CHECK(refused_after([](Manifest& m) { m.runs[2].pages = 4; }) ==
          "it: run 2 is of kind 2, block 0, 4 pages from 10, piece 1 at 1, which cannot be");
    CHECK(refused_after([](Manifest& m) { m.runs[2].page = 9; }) != "read");                   // overlaps
    CHECK(refused_after([](Manifest& m) { m.runs[2].piece = 3; }) != "read");                  // there is none
    CHECK(refused_after([](Manifest& m) { m.runs[2].piece = 0; }) != "read");                  // is no page
    CHECK(refused_after([](Manifest& m) { m.runs[4].pages = 35; }) != "read");                 // past the end
    CHECK(refused_after([](Manifest& m) { m.runs[4].pages = ~std::uint64_t{0}; }) != "read");  // and wraps
    CHECK(refused_after([](Manifest& m) { m.runs[5].block = 2; }) != "read");                  // there is none
    CHECK(refused_after([](Manifest& m) { m.runs[5].kind = static_cast<Run::Kind>(5); }) != "read");
    CHECK(refused_after([](Manifest& m) { m.runs[5].class_of = static_cast<guest::Class>(guest::classes); }) != "read");
    CHECK(refused_after([](Manifest& m) { std::swap(m.runs[0], m.runs[1]); }) != "read");
    CHECK(refused_after([](Manifest& m) { std::swap(m.runs[5], m.runs[6]); }) != "read");
    CHECK(refused_after([](Manifest& m) { m.runs[1].pages = 0; }) != "read");
}

}  // namespace dmchain::replica
