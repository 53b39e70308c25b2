// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain gc: each thing that a broken operation leaves is removed once it is nobody's, and each that only looks like one
// stays. With devices: tests/target/compact.
#include "device/garbage.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "qcow2/active.hpp"
#include "support/active_maker.hpp"
#include "support/folder.hpp"

namespace dmchain::test {
namespace {

using Json = nlohmann::json;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Json known(const std::string& path) {
    struct stat st {};
    REQUIRE(::stat(path.c_str(), &st) == 0);
    return {{"path", path},
            {"inode", st.st_ino},
            {"bytes", st.st_size},
            {"mtime_sec", st.st_mtim.tv_sec},
            {"mtime_nsec", st.st_mtim.tv_nsec}};
}

// A folder with the chain a <- b <- c, its chain file, and what a test adds.
class Vm : public Folder {
public:
    Vm() {
        must("cd " + path() +
             " && qemu-img create -q -f qcow2 a 1M && qemu-img create -q -f qcow2 -b a -F qcow2 b"
             " && qemu-img create -q -f qcow2 -b b -F qcow2 c && " +
             dmchain() + " index c --chain vm.chain");
    }

    // A copy of b and a that is not finished.
    std::string merging(const std::string& name = "b.merging") const {
        qcow2::make_active(*this / name, {.size = 1 << 20, .cluster_bits = 16, .subblock_bits = 12, .backing_name = ""});
        return *this / name;
    }
    // The note of a merge of a and b.
    void note(bool copied, bool old_there, const std::string& merged = "") const {
        Json a = known(*this / "a"), b = known(*this / "b");
        if (!old_there) a["mtime_nsec"] = 1, a["inode"] = 1;
        const Json none = {{"path", ""}, {"inode", 0}, {"bytes", 0}, {"mtime_sec", 0}, {"mtime_nsec", 0}};
        write("b.compact",
              Json{{"path", *this / "b"}, {"old", {a, b}}, {"copied", copied}, {"merged", merged.empty() ? none : known(merged)}}
                  .dump(1));
    }
    std::string files() const { return must("cd " + path() + " && ls -A | tr '\\n' ' '"); }
    // What gc says; @after: the files that are left.
    std::string gc(const std::string& after) const {
        const std::string before = files(), would = must(dmchain() + " gc --dry-run " + path());
        CHECK(files() == before);
        const Ran ran = run(dmchain() + " gc " + path());
        CHECK(ran.status == 0);
        CHECK(files() == after);
        // Without --dry-run it does what it said.
        std::string said = ran.out;
        for (std::size_t at = 0; (at = said.find("removed /", at)) != std::string::npos;) said.replace(at, 8, "would remove ");
        for (std::size_t at = 0; (at = said.find("remove  /", at)) != std::string::npos;) said.erase(at + 6, 1);
        CHECK(said == would);
        must("qemu-img check -q " + (*this / "a") + " && cd " + path() + " && qemu-img check -q c");
        return ran.out;
    }
};

}  // namespace

TEST_CASE("gc: nothing to do") {
    const Vm vm;
    CHECK(vm.gc("a b c vm.chain ") == "nothing was left behind\n");
    CHECK(run(dmchain() + " gc " + (vm / "nowhere")).status == 1);
    CHECK(run(dmchain() + " gc " + (vm / "a")).out == "dmchain: " + (vm / "a") + ": is no folder\n");
}

TEST_CASE("gc: temporary files whose process is gone") {
    const Vm vm;
    must("cd " + vm.path() +
         " && truncate -s 64k vm.chain.4711.tmp && cp vm.chain other.chain.1.tmp && : >b.compact.7.tmp"
         // Those that only look like it.
         " && printf 'what I wrote' >my.chain.8.tmp && printf x >report.9.tmp && : >vm.chain.x9.tmp && : >vm.chain.tmp"
         " && ln -s a link.chain.5.tmp && truncate -s 64k held.chain.6.tmp");
    must("cd " + vm.path() +
         " && (flock held.chain.6.tmp sleep 20 >/dev/null 2>&1 & echo $! >../pid.$$; sleep 0.5; mv ../pid.$$ pid)");
    const std::string out =
        vm.gc("a b c held.chain.6.tmp link.chain.5.tmp my.chain.8.tmp pid report.9.tmp vm.chain vm.chain.tmp vm.chain.x9.tmp ");
    run("kill $(cat " + (vm / "pid") + ")");
    CHECK(has(out, "removed " + (vm / "vm.chain.4711.tmp")));
    CHECK(has(out, "left alone " + (vm / "held.chain.6.tmp") + ": another process has it locked"));
    CHECK(has(out, "left alone " + (vm / "my.chain.8.tmp") + ": is not what dmchain writes under such a name"));
    CHECK_FALSE(has(out, "report"));
    CHECK_FALSE(has(out, "link"));
}

TEST_CASE("gc: a merge that can go on is no garbage") {
    const Vm vm;
    vm.merging();
    vm.note(false, true);
    CHECK(has(vm.gc("a b b.compact b.merging c vm.chain "), "can go on: run 'dmchain compact' with the image on top"));
    // Complete, under its temporary name; with its name.
    must("cd " + vm.path() + " && cp b b.merging");
    vm.note(true, false, vm / "b.merging");
    CHECK(has(vm.gc("a b b.compact b.merging c vm.chain "), "can go on"));
    must("rm " + (vm / "b.merging"));
    vm.note(true, false, vm / "b");
    CHECK(has(vm.gc("a b b.compact c vm.chain "), "can go on"));
    // What is neither.
    vm.note(true, false, vm / "c");
    CHECK(has(vm.gc("a b b.compact c vm.chain "), "neither the layers nor the merged file"));
    vm.write("b.compact", "a list of what to do");
    CHECK(has(vm.gc("a b b.compact c vm.chain "), "is not the note of a merge"));
    vm.note(false, false);
    must("cd " + vm.path() + " && mv b.compact c.compact");
    CHECK(has(vm.gc("a b c c.compact vm.chain "), "it was copied or moved"));
}

TEST_CASE("gc: a merge whose layers are not what they were") {
    const Vm vm;
    vm.merging();
    must("cd " + vm.path() + " && " + dmchain() + " index c --chain b.merging.chain");
    vm.note(false, false);
    const std::string out = vm.gc("a b c vm.chain ");
    CHECK(has(out, "removed " + (vm / "b.merging") + ": of a merge that cannot go on"));
    // The note last.
    CHECK(out.rfind("removed") == out.find("removed " + (vm / "b.compact")));
    // A complete one may be all that is left of them.
    must("cd " + vm.path() + " && cp a b.merging");
    vm.note(false, false);
    CHECK(has(vm.gc("a b b.merging c vm.chain "), "a complete copy of layers that are not there any more"));
}

TEST_CASE("gc: without a note") {
    Vm vm;
    SUBCASE("a copy that was not finished") {
        vm.merging();
        CHECK(has(vm.gc("a b c vm.chain "), "removed " + (vm / "b.merging")));
    }
    SUBCASE("one that holds something") {
        vm.merging();
        ActiveMaker m(vm.read("b.merging"), 16);
        const std::uint64_t at = m.grow();
        m.records({{0, at, 0xffff}});
        vm.write("b.merging", m.bytes);
        CHECK(has(vm.gc("a b b.merging c vm.chain "), "an image, and no note tells of a merge"));
    }
    SUBCASE("an image") {
        must("cp " + (vm / "a") + " " + (vm / "b.merging"));
        CHECK(has(vm.gc("a b b.merging c vm.chain "), "an image, and no note tells of a merge"));
    }
    SUBCASE("one that an image names") {
        vm.merging();
        must("qemu-img create -q -f qcow2 -u -b " + (vm / "b.merging") + " -F qcow2 " + (vm / "d") + " 1M");
        CHECK(has(vm.gc("a b b.merging c d vm.chain "), "left alone " + (vm / "b.merging") + ": " + (vm / "d") + " names it"));
    }
    SUBCASE("one that is open in another program") {
        vm.merging();
        must("cd " + vm.path() +
             " && (flock b.merging sleep 20 >/dev/null 2>&1 & echo $! >../pid.$$; sleep 0.5; mv ../pid.$$ pid)");
        CHECK(has(vm.gc("a b b.merging c pid vm.chain "), "another process has it locked"));
        run("kill $(cat " + (vm / "pid") + ")");
    }
    SUBCASE("a second name") {
        must("cd " + vm.path() + " && ln b b.merging && ln b b.named");
        CHECK(has(vm.gc("a b c vm.chain "), "removed " + (vm / "b.named") + ": a second name of "));
    }
    SUBCASE("a second name that a chain file has") {
        must("cd " + vm.path() + " && ln b b.merging && qemu-img create -q -f qcow2 -b b.merging -F qcow2 d && " + dmchain() +
             " index d --chain d.chain && rm d");
        CHECK(has(vm.gc("a b b.merging c d.chain vm.chain "),
                  "left alone " + (vm / "b.merging") + ": " + (vm / "d.chain") + " names it"));
    }
    SUBCASE("a second name that an image has") {
        must("cd " + vm.path() + " && ln b b.merging && qemu-img create -q -f qcow2 -b b.merging -F qcow2 d");
        CHECK(has(vm.gc("a b b.merging c d vm.chain "), "left alone " + (vm / "b.merging") + ": " + (vm / "d") + " names it"));
    }
    SUBCASE("the only name") {
        must("cd " + vm.path() + " && cp b b.named");
        CHECK(has(vm.gc("a b b.named c vm.chain "), "the only name of an image"));
    }
    SUBCASE("names of somebody's own") {
        must("cd " + vm.path() + " && cp b company.merging && cp b x.named && : >minutes.compact.txt");
        CHECK(vm.gc("a b c company.merging minutes.compact.txt vm.chain x.named ") == "nothing was left behind\n");
    }
    SUBCASE("the index of a merged file that is gone") {
        must("cd " + vm.path() + " && cp a b.merging && " + dmchain() + " index b.merging --chain b.merging.chain");
        CHECK(has(vm.gc("a b b.merging b.merging.chain c vm.chain "), "belongs to '" + (vm / "b.merging'")));
        must("rm " + (vm / "b.merging"));
        CHECK(has(vm.gc("a b c vm.chain "), "the index of a merged file that is gone"));
    }
    SUBCASE("an index of something else under that name") {
        must("cd " + vm.path() + " && cp vm.chain b.merging.chain");
        CHECK(has(vm.gc("a b b.merging.chain c vm.chain "), "is no chain file of a merge"));
    }
}

TEST_CASE("gc: moves") {
    const Vm vm;
    must("mkdir " + (vm / "far"));
    const std::string to = vm / "far/n";
    // Of a, on which b stands.
    const auto note = [&](bool copied, bool copy, bool there = true) {
        Json from = known(vm / "a");
        if (!there) from["mtime_nsec"] = 1, from["inode"] = 1;
        const Json none = {{"path", ""}, {"inode", 0}, {"bytes", 0}, {"mtime_sec", 0}, {"mtime_nsec", 0}};
        vm.write("far/n.move", Json{{"from", from},
                                    {"to", to},
                                    {"above", vm / "b"},
                                    {"copied", copied},
                                    {"copy", copy ? known(to) : none},
                                    {"backing_name", ""},
                                    {"bytes", 1},
                                    {"allow", Json::array()},
                                    {"chain_files", Json::array()}}
                                   .dump(1));
    };
    const auto far = [&] { return must("ls -A " + (vm / "far") + " | tr '\\n' ' '"); };
    SUBCASE("that can go on") {
        note(false, false);
        vm.write("far/n.moving", "a part of it");
        const std::string out = vm.gc("a b c far vm.chain ");
        CHECK(has(out, "left alone " + to + ".moving: a move of '" + (vm / "a") + "' that can go on: run 'dmchain move TOP " +
                           (vm / "a") + " " + to + "' with the image on top of its chain, or with --abort, too"));
        CHECK(far() == "n.move n.moving ");
    }
    SUBCASE("that can only go on") {
        must("cp " + (vm / "a") + " " + to);
        note(true, true);
        CHECK(has(vm.gc("a b c far vm.chain "), "of its chain\n"));
        CHECK(far() == "n n.move ");
    }
    SUBCASE("that is done but for its note") {
        must("mv " + (vm / "a") + " " + to + " && cp " + to + " " + (vm / "a"));
        note(true, true);
        must("cd " + vm.path() + " && rm a && qemu-img rebase -u -f qcow2 -b far/n -F qcow2 b");
        const Ran ran = run(dmchain() + " gc " + vm.path());
        CHECK(has(ran.out, "removed " + to + ".move: of a move that is done"));
        CHECK(far() == "n ");
    }
    SUBCASE("of a layer that is not what it was") {
        note(false, false, false);
        vm.write("far/n.moving", "a part of it");
        CHECK(has(vm.gc("a b c far vm.chain "), "removed " + to + ".moving: of a move that cannot go on"));
        CHECK(far().empty());
    }
    SUBCASE("of a layer that is not there") {
        note(false, false);
        must("sed -i 's|\"" + (vm / "a") + "\"|\"/nowhere/a\"|' " + to + ".move");
        CHECK(has(vm.gc("a b c far vm.chain "), "is all mounted?"));
        CHECK(far() == "n.move ");
    }
    SUBCASE("of which the copy may be all that is left") {
        must("cp " + (vm / "a") + " " + to);
        note(false, true, false);
        CHECK(has(vm.gc("a b c far vm.chain "), "the copy may be all that is left of it"));
    }
    SUBCASE("that are in the way of a merge") {
        note(false, false);
        must("qemu-img create -q -f qcow2 -u -b " + (vm / "a") + " -F qcow2 " + to + ".moving 1M");
        CHECK(has(run(dmchain() + " compact " + (vm / "c") + " --range 0..1 --registry " + (vm / "far")).out,
                  to + ".moving, of a move that was cut off, stands on '" + (vm / "a") + "'"));
    }
    SUBCASE("temporary files") {
        note(false, false);
        must("cd " + (vm / "far") + " && cp n.move n.move.12.tmp && printf x >m.move.13.tmp");
        CHECK(has(vm.gc("a b c far vm.chain "), "removed " + to + ".move.12.tmp: a file in the making"));
        CHECK(far() == "m.move.13.tmp n.move ");
    }
    SUBCASE("names of somebody's own") {
        vm.write("far/chess.move", "e2 e4");
        vm.write("far/picture.moving", "a film");
        CHECK(vm.gc("a b c far vm.chain ") == "nothing was left behind\n");
        must("cd " + (vm / "far") + " && : >n && mv chess.move n.move && : >n.moving");
        CHECK(has(vm.gc("a b c far vm.chain "), "is not the note of a move"));
    }
}

TEST_CASE("gc: chain files whose layers are gone") {
    const Vm vm;
    must("cd " + vm.path() + " && mkdir gone && cp a gone/x && cp a y && cp a z && " + dmchain() +
         " index gone/x --chain x.chain && " + dmchain() +
         " index y --chain y.chain && qemu-img create -q -f qcow2 -b z -F qcow2 zz && " + dmchain() +
         " index zz --chain zz.chain && rm gone/x y zz");
    const std::string out = vm.gc("a b c gone vm.chain x.chain z zz.chain ");
    CHECK(has(out, "removed " + (vm / "y.chain")));
    CHECK(has(out, "x.chain: a chain file: of its 1 layer 1 is gone"));
    CHECK(has(out, "they lay in other folders: is all mounted?"));
    CHECK(has(out, "zz.chain: a chain file: of its 2 layers 1 is gone"));
}

TEST_CASE("gc: a layer that nothing names may hold what a guest wrote") {
    const Vm vm;
    vm.merging("lost");
    CHECK(has(vm.gc("a b c lost vm.chain "), "left alone " + (vm / "lost") + ": a layer that is not sealed"));
}

TEST_CASE("gc: what changed since it was judged stays") {
    const Vm vm;
    const std::string path = vm.merging();
    const auto garbage = [&] {
        const chain::Fleet fleet = chain::scan_fleet({.folders = {vm.path()}});
        const auto all = device::judge(fleet);
        REQUIRE(all.size() == 1);
        REQUIRE(all.front().garbage);
        return all.front();
    };
    const auto stays = [&](const device::Verdict& v, const char* why) {
        std::string said;
        try {
            device::remove_garbage(v);
        } catch (const Error& e) {
            said = e.what();
        }
        CHECK(has(said, why));
        CHECK(std::filesystem::exists(path));
    };
    device::Verdict v = garbage();
    SUBCASE("written") {
        must("printf x >>" + path);
        stays(v, "is another file than when it was judged");
    }
    SUBCASE("replaced") {
        must("cp -p " + path + " " + path + "2 && mv " + path + "2 " + path);
        stays(v, "is another file than when it was judged");
    }
    SUBCASE("replaced by a link") {
        must("mv " + path + " " + path + "2 && ln -s " + path + "2 " + path);
        stays(v, "cannot open");
    }
    SUBCASE("opened") {
        must("cd " + vm.path() + " && (flock b.merging sleep 20 >/dev/null 2>&1 & echo $! >pid; sleep 0.5)");
        stays(v, "another process has it locked");
        run("kill $(cat " + (vm / "pid") + ")");
    }
    SUBCASE("not changed") {
        device::remove_garbage(v);
        CHECK_FALSE(std::filesystem::exists(path));
    }
}

}  // namespace dmchain::test
