// SPDX-License-Identifier: GPL-2.0-or-later
// Storing and restoring, with folders that are lost and copies that are damaged: what comes back is what was stored, or nothing.
#include <algorithm>
#include <functional>

#include "guest/firecracker.hpp"
#include "replica/repair.hpp"
#include "replica/stores.hpp"

namespace dmchain::replica {

TEST_CASE("store: what was stored comes back, also from one folder of three") {
    Stores s;
    s.store("one", small);
    CHECK(same(small, s.restore("one")));
    for (const char* left : {"a", "b", "c"}) CHECK(same(small, s.restore("one", "dir:" + (s.folder / left))));
    // Head and tail, five pages of memory, one of firmware.
    CHECK(s.pieces("a").size() == 4);
    CHECK(!fs::exists(s.folder / "a/incoming"));
    CHECK(
        s.restore("two") ==
        fmt::format("{0}/a: has no snapshot 'two'; {0}/b: has no snapshot 'two'; {0}/c: has no snapshot 'two'", s.folder.path()));
}

TEST_CASE("store: compressed, what was stored comes back; damaged it is not used, and repair compresses it again") {
    Stores s;
    s.compress = true;
    const Stored stored = s.store("one", small);
    CHECK(same(small, s.restore("one")));
    std::uint64_t bytes = 0, packed = 0;
    for (const char* in : {"a", "b", "c"})
        for (const auto& p : s.pieces(in)) {
            bytes += fs::file_size(p);
            packed += p.ends_with(".zst");
        }
    // Of the four pieces, the five pages are what gets smaller.
    CHECK(packed == 3);
    CHECK(stored.written_bytes - 3 * fs::file_size(s.folder / "a/snapshots/one") == bytes);
    // The same again, whichever way: it is there.
    s.compress = false;
    CHECK(s.store("two", small).reused_bytes != 0);
    CHECK(s.pieces("a").size() == 4);
    for (const char* in : {"a", "b"})
        for (const auto& p : s.pieces(in))
            if (p.ends_with(".zst")) in[0] == 'a' ? flip(p) : fs::resize_file(p, 5);
    CHECK(same(small, s.restore("two")));
    // Written again in the other form: the damaged file goes.
    s.store("three", small);
    for (const char* in : {"a", "b", "c"}) CHECK(s.pieces(in).size() == 4);
    CHECK(same(small, s.restore("two", "dir:" + s.folder / "a")));

    fs::remove_all(s.folder / "a");
    fs::remove_all(s.folder / "b");
    for (const char* name : {"a", "b"}) fs::create_directory(s.folder / name);
    Store places = open_store(s.all);
    for (Place& f : places) f.begin_writing();
    const Catalog catalog = read_catalog(places);
    Pieces pieces = wanted_copies(catalog);
    read_copies(pieces, places, [](std::uint64_t) {});
    repair(catalog, pieces, places, [](std::uint64_t) {});
    for (const char* in : {"a", "b", "c"})
        CHECK(std::ranges::count_if(s.pieces(in), [](const std::string& p) { return p.ends_with(".zst"); }) == 1);
}

TEST_CASE("store: what was stored comes back in its form") {
    Stores s;
    const std::string mapped = StreamMaker::small_mapped(StreamMaker::libvirt_header(6)).bytes;
    s.store("mapped", mapped);
    CHECK(s.restore("mapped") == mapped);
    const std::string saved = StreamMaker::libvirt_header(0) + small;
    s.store("saved", saved);
    CHECK(same(saved, s.restore("saved")));
    // With what QEMU 10 has between the sections of memory.
    s.store("ten", StreamMaker::small(true).bytes);
    CHECK(same(StreamMaker::small(true).bytes, s.restore("ten")));

    std::string memory = StreamMaker::filled('a') + StreamMaker::filled('\0') + StreamMaker::filled('b');
    const std::string file = s.folder.write("memory", memory), devices(5 << 19, 'd'), state = s.folder.write("state", devices);
    s.store("microvm", guest::read_firecracker(File(file), {}, state));
    std::string state_again;
    CHECK(s.restore("microvm", s.all, &state_again) == memory);
    CHECK(state_again == devices);
}

TEST_CASE("store: damaged copies are not used, and without any other the snapshot is refused") {
    Stores s;
    s.store("one", small);
    for (const auto& p : s.pieces("a")) flip(p);
    for (const auto& p : s.pieces("b")) fs::resize_file(p, 1);
    CHECK(same(small, s.restore("one")));
    for (const auto& p : s.pieces("c")) {
        flip(p);
        const std::string said = s.restore("one");
        CHECK(said.find("has no copy left that is not damaged: it has ") != std::string::npos);
        flip(p);
    }
    CHECK(same(small, s.restore("one")));
    const auto pieces = s.pieces("c");
    fs::remove(pieces[0]);
    CHECK(
        missing_pieces(*open_store(s.all)[2].read_manifest("one"), open_store("dir:" + (s.folder / "c")), false).pieces.size() ==
        1);
}

TEST_CASE("store: a damaged manifest is left, another is taken") {
    Stores s;
    s.store("one", small);
    flip(s.folder / "a/snapshots/one");
    CHECK(same(small, s.restore("one")));
    CHECK(find_manifest(open_store(s.all), "one").problems.size() == 1);
    flip(s.folder / "b/snapshots/one");
    fs::remove(s.folder / "c/snapshots/one");
    CHECK(s.restore("one").find("/c: has no snapshot 'one'") != std::string::npos);
    // Two different ones.
    Stores t;
    t.store("one", StreamMaker::small().bytes);
    fs::copy_file(s.folder / "stream-one", s.folder / "other");
    flip(s.folder / "a/snapshots/one");
    flip(s.folder / "b/snapshots/one");
    CHECK(s.restore("one", "dir:" + (s.folder / "a") + "," + (t.folder / "a"))
              .find("is another one than that of the folder before") != std::string::npos);
}

TEST_CASE("store: a manifest that cannot be read is as good as none") {
    Stores s;
    s.store("one", small);
    fs::remove(s.folder / "a/snapshots/one");
    fs::create_directory(s.folder / "a/snapshots/one");  // as a bad sector: it is there, and reading it fails
    CHECK(same(small, s.restore("one")));
    const auto problems = find_manifest(open_store(s.all), "one").problems;
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].find("/a/snapshots/one: ") != std::string::npos);
    // It says why when there is no other.
    CHECK(s.restore("one", "dir:" + (s.folder / "a")) == problems[0]);
}

TEST_CASE("store: the same content is stored once") {
    Stores s;
    const Stored first = s.store("one", small);
    CHECK(first.reused_bytes == 0);
    std::string bytes = small;
    bytes.replace(bytes.find(std::string(100, 'b')), 1, "B");  // of the firmware
    const Stored second = s.store("two", bytes);
    CHECK(s.pieces("a").size() == 5);
    CHECK(second.reused_bytes > 3 * 3 * guest::page_bytes);
    CHECK(same(small, s.restore("one")));
    CHECK(same(bytes, s.restore("two")));
    // A damaged copy is not taken for the content.
    for (const auto& p : s.pieces("b")) flip(p);
    CHECK(s.store("three", small).reused_bytes < second.reused_bytes + 3 * guest::page_bytes);
    CHECK(same(small, s.restore("three", "dir:" + (s.folder / "b"))));
}

TEST_CASE("store: folders that are not stores, not empty, the same, or in use are refused") {
    Stores s;
    const auto said = [](const std::string& store) {
        try {
            for (Place& f : open_store(store)) f.begin_writing();
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("opened");
    };
    const std::string a = s.folder / "a";
    CHECK(said(a) == "'" + a + "': is no store: expected dir:FOLDER[,FOLDER...] or rados:POOL[,POOL...]");
    CHECK(said("dir:") == "'dir:': has a folder without a name");
    CHECK(said("dir:" + a + ",") == "'dir:" + a + ",': has a folder without a name");
    CHECK(said("dir:" + a + "," + a + "/.") == a + "/: is the same folder as " + a + ": name folders on different disks");
    CHECK(said("dir:" + a + "/none") == a + "/none: cannot open the folder: No such file or directory");
    s.folder.write("b/file", "mine");
    CHECK(said("dir:" + (s.folder / "b")) ==
          (s.folder / "b") + ": is no store of dmchain, and not empty: name a store, or an empty folder");
    Store held = open_store("dir:" + a);
    held[0].begin_writing();
    CHECK(said("dir:" + a) == a + ": another dmchain works on it: wait until it is done");
    CHECK_THROWS_AS(open_store("dir:" + (s.folder / "c"))[0].require_store(), Error);
}

TEST_CASE("store: what a run that was broken off left is taken away, and harms nothing") {
    Stores s;
    s.store("one", small);
    fs::create_directory(s.folder / "a/incoming");
    s.folder.write("a/incoming/" + std::string(64, '0'), "half");
    CHECK(same(small, s.restore("one")));
    s.store("two", small);
    CHECK(!fs::exists(s.folder / "a/incoming"));
}

TEST_CASE("store: names of snapshots") {
    for (const char* name : {"one", "2026-11-26T10:00:00Z", "a.b_c-d"}) CHECK(is_name(name));
    for (const char* name : {"", ".", "..", ".hidden", "a/b", "a b", "a\n"}) CHECK_FALSE(is_name(name));
    CHECK_FALSE(is_name(std::string(101, 'a')));
}

}  // namespace dmchain::replica
