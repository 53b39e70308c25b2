// SPDX-License-Identifier: GPL-2.0-or-later
// Copies that are lost or damaged are made again from those that are left, and what belongs to no snapshot goes.
#include "replica/repair.hpp"

#include "replica/stores.hpp"
#include "support/error_of.hpp"

namespace dmchain::replica {

namespace {

struct Looked {
    Store places;
    Catalog catalog;
    Pieces pieces;
};
Looked look(const std::string& store) {
    Looked out{open_store(store), {}, {}};
    out.catalog = read_catalog(out.places);
    out.pieces = wanted_copies(out.catalog);
    read_copies(out.pieces, out.places, [](std::uint64_t) {});
    return out;
}

Repair mend(const std::string& store) {
    for (Place& f : open_store(store)) f.begin_writing();  // empty folders become stores
    Looked l = look(store);
    for (Place& f : l.places) f.begin_writing();
    const Repair r = plan_repair(l.catalog, l.pieces, l.places);
    std::uint64_t told = 0;
    repair(l.catalog, l.pieces, l.places, [&](std::uint64_t n) { told += n; });
    CHECK(told == r.bytes);
    return r;
}

// Every piece has its copies, all are sound, and every folder has every manifest.
void check_whole(const std::string& store) {
    const Looked l = look(store);
    CHECK(l.catalog.problems.empty());
    CHECK(l.catalog.lost.empty());
    for (const auto& [digest, c] : l.pieces) {
        CHECK(c.damaged == 0);
        CHECK_FALSE(c.is_short());
    }
}

}  // namespace

TEST_CASE("repair: a folder that is lost, and one with damage, get their copies back") {
    Stores s;
    s.store("one", small);
    check_whole(s.all);
    CHECK(mend(s.all).copies == 0);
    const std::size_t pieces = s.pieces("a").size();

    fs::remove_all(s.folder / "b");
    fs::create_directory(s.folder / "b");
    flip(s.pieces("c")[0]);
    fs::resize_file(s.pieces("c")[1], 1);
    flip(s.folder / "c/snapshots/one");
    const Looked before = look(s.all);
    CHECK(health_of(before.catalog, before.catalog.snapshots.at(0), before.pieces).short_ones == pieces);
    CHECK(before.catalog.problems.size() == 2);
    const Repair r = mend(s.all);
    CHECK(r.copies == pieces + 2);
    CHECK(r.damaged_copies == 2);
    CHECK(r.manifests == 2);
    CHECK(r.lost_snapshots.empty());
    check_whole(s.all);
    for (const char* left : {"a", "b", "c"}) CHECK(same(small, s.restore("one", "dir:" + (s.folder / left))));
}

TEST_CASE("repair: copies of one piece are in as many folders as before, also in fewer or other ones") {
    Stores s;
    fs::create_directory(s.folder / "d");
    const std::string three = s.all;
    s.all += "," + (s.folder / "d");
    s.store("one", small);
    const auto copies = [&] {
        std::size_t n = 0;
        for (const char* f : {"a", "b", "c", "d"}) n += s.pieces(f).size();
        return n;
    };
    const std::size_t stored = copies();
    // One of four is gone, and nothing comes in its place.
    fs::remove_all(s.folder / "d/pieces");
    mend(three);
    CHECK(s.pieces("a").size() + s.pieces("b").size() + s.pieces("c").size() == stored);
    check_whole(three);
    // Fewer folders than copies: nothing is done.
    fs::remove_all(s.folder / "c");
    CHECK(test::error_of([&] { mend("dir:" + (s.folder / "a") + "," + (s.folder / "b")); }) ==
          "some pieces are to have 3 copies, each in a folder of its own, and 2 folders are given: name as many folders, empty "
          "ones "
          "for those that are lost");
    // A damaged copy that is one too many goes.
    fs::create_directory(s.folder / "d/pieces");
    fs::create_directory(s.folder / "c");
    mend(three);
    const std::string piece = s.pieces("a")[0];
    const std::string name = fs::path(piece).parent_path().filename().string() + "/" + fs::path(piece).filename().string();
    fs::create_directories(fs::path(s.folder / ("d/pieces/" + name)).parent_path());
    fs::copy_file(piece, s.folder / ("d/pieces/" + name));
    flip(s.folder / ("d/pieces/" + name));
    CHECK(mend(s.all).damaged_copies == 1);
    CHECK(copies() == stored);
    check_whole(s.all);
}

TEST_CASE("repair: what is lost for good is named, and all else is made again") {
    Stores s;
    s.store("one", small);
    const auto a = s.pieces("a"), b = s.pieces("b"), c = s.pieces("c");
    const std::string lost = fs::path(a[0]).filename().string();
    for (const auto& pieces : {a, b, c})
        for (const std::string& p : pieces)
            if (p.ends_with(lost)) flip(p);
    fs::remove(s.folder / "a/snapshots/one");
    for (const std::string& p : b)
        if (!p.ends_with(lost)) fs::remove(p);
    const Repair r = mend(s.all);
    CHECK(r.lost_snapshots == std::vector<std::string>{"one"});
    CHECK(r.copies == a.size() - 1);
    CHECK(r.manifests == 1);
    // What is left of a piece stays: somebody may know how to mend it.
    CHECK(s.pieces("a").size() == a.size());
    CHECK(s.restore("one").find("has no copy left that is not damaged") != std::string::npos);
}

TEST_CASE("gc of a store: pieces of no snapshot go, and nothing as long as it is not known whose they are") {
    Stores s;
    s.store("one", small);
    const std::size_t alone = s.pieces("a").size();
    std::string bytes = small;
    bytes.replace(bytes.find(std::string(100, 'b')), 1, "B");  // of the firmware
    s.store("two", bytes);
    const auto clean = [&](bool dry_run) {
        const Looked l = look(s.all);
        return remove_unused(l.catalog, l.places, dry_run);
    };
    CHECK(clean(false).copies == 0);
    for (const char* f : {"a", "b", "c"}) fs::remove(s.folder / f + "/snapshots/two");
    CHECK(clean(true).copies == 3);
    CHECK(s.pieces("a").size() == alone + 1);
    const Unused gone = clean(false);
    CHECK(gone.copies == 3);
    CHECK(gone.bytes == 3 * guest::page_bytes);
    CHECK(s.pieces("a").size() == alone);
    CHECK(same(small, s.restore("one")));
    // A manifest in one folder is enough.
    fs::remove(s.folder / "a/snapshots/one");
    flip(s.folder / "b/snapshots/one");
    CHECK(clean(false).copies == 0);
    flip(s.folder / "c/snapshots/one");
    CHECK(
        test::error_of([&] { clean(false); }).starts_with("the snapshot 'one', or a layer of it, has no manifest that is whole"));
    CHECK(s.pieces("a").size() == alone);
}

}  // namespace dmchain::replica
