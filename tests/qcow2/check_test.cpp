// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain check finds everything, not only the first fault; inspect tells the facts; both by the
// program, with their JSON and exit codes.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qcow2/faults.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using Json = nlohmann::json;

}  // namespace

TEST_CASE("check: all faults of all layers, base first, with exit code 3") {
    Folder folder;
    Maker base;
    base.put64(base.l2_entry(0), base.l1());
    base.put64(base.l2_entry(6), std::uint64_t{1} << 40);
    base.put_text(base.compressed(), std::string(40, '\xff'));
    folder.write("base.qcow2", base.bytes);
    Maker top({.backing = "base.qcow2", .backing_format = "qcow2"});
    top.put64(top.l2_entry(6), top.data(0));     // used twice
    top.put16(top.refcount_block() + 2 * 6, 0);  // data cluster 1 called free
    top.put16(top.refcount_block() + 2 * 3, 0);  // the L1 table called free
    top.put64(top.l1(), top.l2() | std::uint64_t{1} << 63);
    folder.write("top.qcow2", top.bytes);

    const std::string expected = fmt::format(
        "{0}/base.qcow2: compressed cluster at 0x8000 for disk offset 0x4000 cannot be inflated, expected a zlib stream of 4096 "
        "bytes\n"
        "{0}/base.qcow2: L2 entry at 0x4000 for disk offset 0x0 is a cluster at 0x3000, expected it outside the L1 table at "
        "0x3000\n"
        "{0}/base.qcow2: L2 entry at 0x4030 for disk offset 0x6000 is a cluster at 0x10000000000, expected it to start within "
        "the file's 36864 bytes\n"
        "{0}/top.qcow2: cluster at 0x5000 is used for disk offset 0x6000 and for another, expected one use\n"
        "{0}/top.qcow2: refcount of the cluster at 0x3000 (L1 table) is 0, expected at least 1; repair it with \"qemu-img check "
        "-r all\"\n"
        "{0}/top.qcow2: refcount of the cluster at 0x6000 (data) is 0, expected at least 1; repair it with \"qemu-img check -r "
        "all\"\n"
        "{0}/top.qcow2: 2 layers checked, 6 faults\n",
        folder.path());
    Ran ran = run(dmchain() + " check " + folder / "top.qcow2");
    CHECK(ran.out == expected);
    CHECK(ran.status == 3);

    ran = run(dmchain() + " check --json " + folder / "top.qcow2");
    CHECK(ran.status == 3);
    Json j = Json::parse(ran.out);
    CHECK(j["fault_count"] == 6);
    CHECK(j["messages"].size() == 6);
    CHECK(j["layers_checked"] == 2);
    CHECK(j["complete"] == true);
}

TEST_CASE("check: what is above a broken layer is checked all the same") {
    Folder folder;
    folder.write("base.qcow2", std::string(70, 'x'));
    Maker top({.backing = "base.qcow2", .backing_format = "qcow2"});
    top.put64(top.l2_entry(6), top.data(0) + 512);
    folder.write("top.qcow2", top.bytes);
    Ran ran = run(dmchain() + " check " + folder / "top.qcow2");
    CHECK(ran.status == 3);
    CHECK(ran.out == fmt::format("{0}/top.qcow2: L2 entry at 0x4030 for disk offset 0x6000 is a cluster at 0x5200, expected a "
                                 "multiple of the cluster size 4096\n"
                                 "{0}/top.qcow2: its backing file '{0}/base.qcow2' is declared qcow2, but does not begin like a "
                                 "qcow2 image\n"
                                 "What lies below that was not checked.\n"
                                 "{0}/top.qcow2: 1 layer checked, 2 faults\n",
                                 folder.path()));
    // Nothing is damaged, but something is missing: 1.
    folder.write("top.qcow2", Maker({.backing = "gone.qcow2", .backing_format = "qcow2"}).bytes);
    ran = run(dmchain() + " check --json " + folder / "top.qcow2");
    CHECK(ran.status == 1);
    CHECK(Json::parse(ran.out)["complete"] == false);
}

TEST_CASE("check: a fault of the L1 table counts once") {
    Folder folder;
    Maker m({.snapshot = true});
    m.put64(m.l1(), m.l2() | 1);
    const std::string top = folder.write("top.qcow2", m.bytes);
    for (const char* how : {"", "--snapshot old "}) {
        const Ran ran = run(dmchain() + " check " + how + top);
        CHECK(ran.out ==
              top + ": L1 entry 0 at 0x3000 is 0x0000000000004001, expected the reserved bits 0x7f000000000001ff to be 0\n" +
                  top + ": 1 layer checked, 1 fault\n");
        CHECK(ran.status == 3);
    }
}

TEST_CASE("check: an L1 entry with the copied flag and no table is told, and reads as none") {
    Folder folder;
    Maker m;
    m.put64(m.l1(), std::uint64_t{1} << 63);
    const std::string top = folder.write("top.qcow2", m.bytes);
    const Ran ran = run(dmchain() + " check " + top);
    CHECK(ran.out == top + ": L1 entry 0 at 0x3000 has the copied flag, expected none, as it names no table\n" + top +
                         ": 1 layer checked, 1 fault\n");
    CHECK(ran.status == 3);
    CHECK(run("qemu-img check " + top).status != 0);
    CHECK(run(dmchain() + " inspect " + top).status == 0);
}

TEST_CASE("check: neighbouring faults of a kind are one line") {
    Folder folder;
    const std::string top = folder / "top.qcow2";
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=off top.qcow2 1G"
         " && qemu-io -f qcow2 -c 'write -q -P 1 0 64M' -c 'write -q -P 1 900M 64M' top.qcow2 && truncate -s 16M data");
    Ran ran = run(dmchain() + " check " + top);
    const auto line = [&](const char* entry, const char* first, unsigned more, const char* last) {
        return fmt::format(
            "{0}: L2 entry at {1} for disk offset {2} is a cluster at {2} of the external data file, expected it to start within "
            "the "
            "16777216 bytes of {3}/data; QEMU reads zeroes there: if they are right, and the file was not cut short, make them "
            "part "
            "of it with \"truncate -s 1073741824 {3}/data\" (and {4} more like it, up to disk offset {5})\n",
            top, entry, first, folder.path(), more, last);
    };
    CHECK(ran.out == line("0x40800", "0x1000000", 767, "0x3ff0000") + line("0x5c200", "0x38400000", 1023, "0x3c3f0000") + top +
                         ": 1 layer checked, 1792 faults\n");
    CHECK(ran.status == 3);
    Json j = Json::parse(run(dmchain() + " check --json " + top).out);
    CHECK(j["fault_count"] == 1792);
    CHECK(j["messages"].size() == 2);
    CHECK(j["faults_not_listed"] == 0);
    // The advice is right.
    must("truncate -s 1073741824 " + (folder / "data"));
    CHECK(run(dmchain() + " check " + top).out == top + ": 1 layer checked, no faults\n");
}

TEST_CASE("check: of faults that are no neighbours the first of each kind are printed, JSON has all") {
    Folder folder;
    Maker m({.clusters = 512});
    for (unsigned i = 6; i < 512; i++) m.put64(m.l2_entry(i), i % 2 ? 0x1000000 : 2);
    m.put64(m.l2_entry(7), 0);
    const std::string top = folder.write("top.qcow2", m.bytes);
    Ran ran = run(dmchain() + " check " + top);
    CHECK(std::count(ran.out.begin(), ran.out.end(), '\n') == 203);
    CHECK(ran.out.find("\n... and 153 more lines of this kind, of 153 faults; --json has them\n") != std::string::npos);
    CHECK(ran.out.find("\n... and 152 more lines of this kind, of 152 faults; --json has them\n") != std::string::npos);
    CHECK(ran.out.ends_with(": 1 layer checked, 505 faults\n"));
    Json j = Json::parse(run(dmchain() + " check --json " + top).out);
    CHECK(j["fault_count"] == 505);
    CHECK(j["messages"].size() == 505);
}

TEST_CASE("check: more lines than are kept of an image are counted") {
    qcow2::Faults all(qcow2::Faults::Mode::collect);
    for (int layer = 0; layer < 12; layer++) {
        qcow2::Faults faults(qcow2::Faults::Mode::collect);
        for (std::uint64_t i = 0; i < 10003; i++) faults.add({"place", 2 * i, 2 * i + 1}, "at {}", 2 * i);
        faults.add({"place", 20005, 20006}, "at {}", 20005);
        CHECK(faults.count() == 10004);
        CHECK(faults.lines().size() == 10000);
        CHECK(faults.not_listed() == 4);
        all.take(std::move(faults));
    }
    CHECK(all.count() == 12 * 10004);
    CHECK(all.lines().size() == 100000);
    CHECK(all.not_listed() == all.count() - 100000);
}

TEST_CASE("an image that is marked corrupt: check tells it and goes on; read only when asked, and nothing is written on it") {
    Folder folder;
    Maker m;
    m.put64(72, 2);
    m.put64(m.l2_entry(6), m.data(0) + 512);
    const std::string top = folder.write("top.qcow2", m.bytes);
    const std::string corrupt =
        top + ": is marked corrupt (incompatible feature bit 1); repair it with \"qemu-img check -r all\" first\n";
    const std::string fault =
        top +
        ": L2 entry at 0x4030 for disk offset 0x6000 is a cluster at 0x5200, expected a multiple of the cluster size 4096\n";
    CHECK(run(dmchain() + " check " + top).out == corrupt + fault + top + ": 1 layer checked, 2 faults\n");
    CHECK(run(dmchain() + " check --ignore-corrupt " + top).out == fault + top + ": 1 layer checked, 1 fault\n");
    // The mark is ignored, not the fault.
    CHECK(run(dmchain() + " index --ignore-corrupt " + top).out == "dmchain: " + fault);

    Maker sound;
    sound.put64(72, 2);
    folder.write("top.qcow2", sound.bytes);
    folder.write("above.qcow2", Maker({.backing = "top.qcow2", .backing_format = "qcow2"}).bytes);
    for (const std::string& image : {top, folder / "above.qcow2"}) {
        for (const char* command : {"inspect", "check", "index"}) {
            CAPTURE(std::string(command));
            const Ran ran = run(fmt::format("{} {} {}", dmchain(), command, image));
            CHECK(ran.status == 3);
            CHECK(ran.out.find(corrupt) != std::string::npos);
        }
        CHECK(run(dmchain() + " check --ignore-corrupt " + image).status == 0);
        CHECK(run(dmchain() + " inspect --ignore-corrupt " + image).out.find("marked corrupt") != std::string::npos);
        CHECK(must(dmchain() + " index --ignore-corrupt " + image).find(".chain: 64 KiB, ") != std::string::npos);
    }
    const Ran ran = run(dmchain() + " create x --ignore-corrupt " + top);
    CHECK(ran.status == 2);
    CHECK(ran.out ==
          "dmchain: create: nothing is written on top of an image that is marked corrupt: give --read-only with "
          "--ignore-corrupt (see dmchain create --help)\n");
}

TEST_CASE("check: refcounts of every width; a dirty image's are not looked at") {
    for (int bits : {1, 2, 4, 8, 16, 32, 64}) {
        CAPTURE(bits);
        Folder folder;
        const std::string top = folder / "top.qcow2";
        must(
            fmt::format("cd {} && qemu-img create -q -f qcow2 -o refcount_bits={},cluster_size=4k top.qcow2 8M && "
                        "qemu-io -c 'write -P 1 1M 3M' top.qcow2",
                        folder.path(), bits));
        CHECK(run(dmchain() + " check " + top).out == top + ": 1 layer checked, no faults\n");
        // The last byte of the first refcount block that is not 0.
        std::string bytes = folder.read("top.qcow2");
        std::size_t block = 0;
        for (int i = 0; i < 8; i++) block = block << 8 | static_cast<unsigned char>(bytes[4096 + static_cast<std::size_t>(i)]);
        std::size_t at = block + 4095;
        while (bytes[at] == 0) at--;
        bytes[at] = 0;
        folder.write("top.qcow2", bytes);
        Ran ran = run(dmchain() + " check " + top);
        CHECK(ran.status == 3);
        CHECK(ran.out.find("is 0, expected at least 1; repair it with") != std::string::npos);
        CHECK(run("qemu-img check " + top).status != 0);
        bytes[79] = 1;
        folder.write("top.qcow2", bytes);
        CHECK(run(dmchain() + " check " + top).out == top + ": 1 layer checked, no faults\n");
    }
}

TEST_CASE("inspect: layers, live clusters, and what is on the disk") {
    Folder folder;
    must("cd " + folder.path() +
         " && truncate -s 64M disk.raw"
         " && printf 'label: gpt\\nsize=16M, name=\"first one\"\\nsize=8M\\n' | sfdisk -q disk.raw"
         " && truncate -s 16M fs && mkfs.ext4 -q -F -L 'my disk' -U 12345678-1234-1234-1234-123456789abc fs"
         " && dd if=fs of=disk.raw bs=1M seek=1 conv=notrunc status=none"
         " && qemu-img convert -c -O qcow2 disk.raw base.qcow2"
         " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 -o extended_l2=on top.qcow2"
         " && qemu-io -c 'write -P 3 0x3000000 128k' top.qcow2");
    const std::string top = folder / "top.qcow2";
    Json j = Json::parse(must(dmchain() + " inspect --json " + top));
    CHECK(j["bytes"] == 64 << 20);
    CHECK(j["layer_count"] == 2);
    CHECK(j["layers"][0]["path"] == top);
    CHECK(j["layers"][0]["features"] == Json({"extended L2"}));
    CHECK(j["layers"][0]["clusters"] == 2);
    CHECK(j["layers"][0]["live_clusters"] == 2);
    CHECK(j["layers"][0]["live_bytes"] == 131072);
    CHECK(j["layers"][0]["number"] == 1);
    CHECK(j["layers"][1]["number"] == 0);
    CHECK(j["layers"][1]["path"] == folder / "base.qcow2");
    CHECK(j["layers"][1]["clusters"] == j["layers"][1]["live_clusters"]);
    CHECK(j["problems"].empty());
    REQUIRE(j["content"].size() == 3);
    CHECK(j["content"][0]["partition_table"] == "gpt");
    CHECK(j["content"][1]["partition"] == 1);
    CHECK(j["content"][1]["partition_name"] == "first one");
    CHECK(j["content"][1]["offset"] == 1 << 20);
    CHECK(j["content"][1]["type"] == "ext4");
    CHECK(j["content"][1]["label"] == "my disk");
    CHECK(j["content"][1]["uuid"] == "12345678-1234-1234-1234-123456789abc");
    CHECK(!j["content"][2].contains("type"));

    // What is covered is no longer live.
    must("cd " + folder.path() + " && qemu-io -c 'write -z 1M 16M' top.qcow2");
    Json later = Json::parse(must(dmchain() + " inspect --json " + top));
    CHECK(later["layers"][1]["clusters"] == j["layers"][1]["clusters"]);
    CHECK(later["layers"][1]["live_clusters"] < j["layers"][1]["live_clusters"]);
    CHECK(later["layers"][0]["live_bytes"] == 131072 + (16 << 20));
    CHECK(!later["content"][1].contains("type"));

    const std::string text = must(dmchain() + " inspect " + top);
    CHECK(text.find("2 layers, top first (0 is the base):\n   1  " + top + "\n") != std::string::npos);
    CHECK(text.find("\n   0  " + (folder / "base.qcow2") + "\n") != std::string::npos);
    CHECK(text.find("partition table gpt") != std::string::npos);
}

TEST_CASE("program: usage errors end with 2, one line, and --help with 0") {
    CHECK(run(dmchain()).status == 2);
    CHECK(run(dmchain()).out == "dmchain: A subcommand is required (see dmchain --help)\n");
    CHECK(run(dmchain() + " check").out == "dmchain: IMAGE is required (see dmchain check --help)\n");
    CHECK(run(dmchain() + " check").status == 2);
    Ran wrong = run(dmchain() + " create x y --in-place --read-only");
    CHECK(wrong.out == "dmchain: create: --in-place excludes --read-only and --layer (see dmchain create --help)\n");
    CHECK(wrong.status == 2);
    CHECK(run(dmchain() + " frobnicate").status == 2);
    for (const auto& [typed, meant] : {std::pair("isnpect", "inspect"),
                                       {"chek", "check"},
                                       {"ativate", "activate"},
                                       {"stat", "status"},
                                       {"recoverr", "recover"},
                                       {"Is", "ls"},
                                       {"frobnicate", ""},
                                       {"x", ""},
                                       {"", ""}}) {
        const std::string hint = *meant ? fmt::format("; did you mean '{}'?", meant) : "";
        const Ran ran = run(fmt::format("{} '{}' x", dmchain(), typed));
        CHECK(ran.out == fmt::format("dmchain: there is no command '{}'{} (see dmchain --help)\n", typed, hint));
        CHECK(ran.status == 2);
    }
    CHECK(run(dmchain() + " check --frob x").status == 2);
    for (const char* command : {"", "inspect", "check"}) CHECK(run(fmt::format("{} {} --help", dmchain(), command)).status == 0);
    Ran ran = run(dmchain() + " inspect /nowhere/x");
    CHECK(ran.status == 1);
    CHECK(ran.out == "dmchain: /nowhere/x: cannot open: No such file or directory\n");
    CHECK(run(dmchain() + " inspect --help > /dev/full").status == 1);
}

}  // namespace dmchain::test
