// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain survey, by the program: trees of images made by QEMU, with what it says of them worked out from what
// 'qemu-img map' says; and what is not as it should be.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "qcow2/active.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

namespace dmchain::test {
namespace {

using Json = nlohmann::json;
constexpr std::uint64_t grain = 512;

std::string survey_of(const std::string& arguments) { return dmchain() + " survey " + arguments; }
Json surveyed(const std::string& arguments) { return Json::parse(must(survey_of("--json " + arguments + " 2>/dev/null"))); }

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The JSON object of a list whose @key is @value.
Json entry(const Json& list, const std::string& key, const std::string& value) {
    for (const Json& e : list)
        if (e.at(key) == value) return e;
    return {};
}

// Trees of images at random.
class Trees {
public:
    Trees(const Folder& folder, unsigned seed) : folder_(folder), random_(seed) {
        for (int base = 0; base < 3; base++) grow(base == 0 ? raw() : image(-1), 0);
    }

    struct Image {
        std::string name;
        int below;  // -1: none
        bool is_raw;
        bool is_top = true;
    };
    std::vector<Image> images;

private:
    int number(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

    int raw() {
        const std::string name = fmt::format("raw-{}", images.size());
        must(fmt::format("head -c 1M /dev/zero | tr '\\0' x >{}", folder_ / name));
        images.push_back({name, -1, true});
        return static_cast<int>(images.size()) - 1;
    }
    int image(int below) {
        static constexpr const char* clusters[] = {"512", "4k", "64k", "256k"};
        const std::string name = fmt::format("layer {}.qcow2", images.size());
        const int kib = 768 + 64 * number(8);
        std::string command =
            fmt::format("cd '{}' && qemu-img create -q -f qcow2 -o cluster_size={}", folder_.path(), clusters[number(4)]);
        if (below >= 0) {
            Image& b = images[static_cast<std::size_t>(below)];
            b.is_top = false;
            command += fmt::format(" -b '{}' -F {}", b.name, b.is_raw ? "raw" : "qcow2");
        }
        command += fmt::format(" '{0}' {1}k && qemu-io -f qcow2", name, kib);
        for (int i = 1 + number(6); i-- > 0;) {
            const int at = number(kib * 2 - 256);
            command += fmt::format(" -c 'write -q {} {} {}'", number(4) ? "-P 7" : "-z", at * 512, 512 * (1 + number(256)));
        }
        must(command + " '" + name + "'");
        images.push_back({name, below, false});
        return static_cast<int>(images.size()) - 1;
    }
    void grow(int below, int height) {
        for (int children = height > 4 ? 0 : number(3) + (height < 2); children-- > 0;) grow(image(below), height + 1);
    }

    const Folder& folder_;
    std::mt19937 random_;
};

struct Mapped {
    std::uint64_t begin, end;
    std::size_t depth;
};
// Data (not zeroes) of an image and what is below it, by QEMU.
std::vector<Mapped> data_of(const std::string& path) {
    std::vector<Mapped> out;
    for (const Json& e : Json::parse(must("qemu-img map --output=json '" + path + "'")))
        if (e["data"] && !e["zero"])
            out.push_back({e["start"], e["start"].get<std::uint64_t>() + e["length"].get<std::uint64_t>(), e["depth"]});
    return out;
}

}  // namespace

TEST_CASE("survey: lengths, live data by depth, sharing and waste are what qemu-img map says") {
    for (unsigned seed = 1; seed <= 4; seed++) {
        CAPTURE(seed);
        Folder folder;
        const Trees trees(folder, seed);
        const auto& images = trees.images;
        const Json j = surveyed(folder.path());

        // By sectors of the disk: what each layer stores, and what of it some top sees.
        std::vector<std::set<std::uint64_t>> stored(images.size()), seen(images.size());
        std::vector<std::size_t> chains(images.size());
        std::size_t tops = 0;
        for (std::size_t i = 0; i < images.size(); i++) {
            const std::string path = folder / images[i].name;
            if (images[i].is_raw)
                for (std::uint64_t at = 0; at < 1 << 20; at += grain) stored[i].insert(at);
            else
                for (const Mapped& m : data_of(path))
                    if (m.depth == 0)
                        for (std::uint64_t at = m.begin; at < m.end; at += grain) stored[i].insert(at);
            if (!images[i].is_top || images[i].is_raw) continue;
            tops++;
            std::vector<std::size_t> layers;
            for (int l = static_cast<int>(i); l >= 0; l = images[static_cast<std::size_t>(l)].below) {
                layers.push_back(static_cast<std::size_t>(l));
                chains[layers.back()]++;
            }
            std::map<std::uint64_t, std::uint64_t> by_depth;
            std::uint64_t live = 0;
            for (const Mapped& m : data_of(path)) {
                by_depth[m.depth ? std::bit_floor(m.depth) : 0] += m.end - m.begin;
                live += m.end - m.begin;
                for (std::uint64_t at = m.begin; at < m.end; at += grain) seen[layers[m.depth]].insert(at);
            }
            const Json c = entry(j["chains"], "image", path);
            CAPTURE(path);
            REQUIRE(!c.is_null());
            CHECK(c["layer_count"] == layers.size());
            CHECK(c["live_bytes"] == live);
            std::map<std::uint64_t, std::uint64_t> told;
            for (const Json& d : c["live_by_depth"]) told[d["depth"]] = d["live_bytes"];
            CHECK(told == by_depth);
        }
        CHECK(j["chain_count"] == tops);
        CHECK(j["broken_chains"] == 0);
        CHECK(j["damage"].empty());
        std::uint64_t wasted = 0, all = 0, given_back = 0;
        std::size_t shared = 0;
        for (std::size_t i = 0; i < images.size(); i++) {
            const std::uint64_t lost = (stored[i].size() - seen[i].size()) * grain;
            wasted += lost;
            all += chains[i] ? stored[i].size() * grain : 0;
            if (chains[i] == 1) given_back += lost;
            shared += chains[i] > 1;
            const Json layer = entry(j["wasteful_layers"], "path", folder / images[i].name);
            CAPTURE(images[i].name);
            CHECK((layer.is_null() ? 0 : layer["wasted_bytes"].get<std::uint64_t>()) == lost);
        }
        for (std::size_t i = 0; i < images.size(); i++) {
            if (!images[i].is_top || images[i].is_raw) continue;
            std::uint64_t own = 0, files = 0, back = 0, others = 0;
            for (int n = static_cast<int>(i); n >= 0; n = images[static_cast<std::size_t>(n)].below) {
                const auto l = static_cast<std::size_t>(n);
                const std::uint64_t bytes = std::filesystem::file_size(folder / images[l].name);
                files += bytes;
                own += chains[l] == 1 ? bytes : 0;
                back += chains[l] == 1 ? (stored[l].size() - seen[l].size()) * grain : 0;
                others += chains[l] > 1;
            }
            const Json c = entry(j["chains"], "image", folder / images[i].name);
            CHECK(c["file_bytes"] == files);
            CHECK(c["own_file_bytes"] == own);
            CHECK(c["freed_bytes"] == back);
            CHECK(c["shared_layers"] == others);
        }
        CHECK(wasted > 0);
        CHECK(shared > 0);
        CHECK(j["wasted_bytes"] == wasted);
        CHECK(j["stored_bytes"] == all);
        CHECK(j["freed_bytes"] == given_back);
        CHECK(j["shared_layers"] == shared);
        CHECK(j["most_chains"] == *std::max_element(chains.begin(), chains.end()));
    }
}

TEST_CASE("survey: compressed data count as they lie in the file") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f raw plain 1M && qemu-io -f raw -c 'write -q -P 5 0 1M' plain"
         " && qemu-img convert -c -O qcow2 plain base.qcow2 && rm plain"
         " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 && qemu-io -c 'write -q 0 256k' top.qcow2");
    const Json j = surveyed(folder.path());
    CHECK(j["stored_bytes"] < (256 << 10) + 65536);
    const Json base = entry(j["wasteful_layers"], "path", folder / "base.qcow2");
    CHECK(base["wasted_bytes"] == base["stored_bytes"].get<std::uint64_t>() / 4);
}

TEST_CASE("survey: what cannot be read is one line each, and the rest goes on") {
    Folder folder;
    const std::string odd = "odd \n'`id`\xff.qcow2";
    must(
        "cd " + folder.path() +
        " && qemu-img create -q -f qcow2 sound.qcow2 1M && qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 without.qcow2 1M"
        " && qemu-img create -q -f qcow2 base.qcow2 1M && qemu-io -c 'write -q 0 64k' base.qcow2"
        " && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 on.qcow2"
        " && qemu-img create -q -f qcow2 damaged.qcow2 1M && qemu-io -c 'write -q 0 64k' damaged.qcow2"
        " && qemu-img create -q -f qcow2 -b damaged.qcow2 -F qcow2 above.qcow2"
        " && qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M && qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 "
        "b.qcow2 1M"
        " && qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 into.qcow2 1M"
        " && qemu-img create -q -f qcow2 -u -b /etc/hostname -F raw out.qcow2 1M"
        " && printf 'QFI\\373and no more' >short.qcow2 && printf text >text && mkfifo fifo && ln -s /etc/passwd link"
        " && mkdir sub && ln -s .. sub/loop && ln -s ../base.qcow2 sub/base.qcow2");
    must("cp '" + folder / "sound.qcow2" + "' \"$(printf '%s' '" + folder.path() + "/odd \n'\\''`id`\xff.qcow2')\"");
    // An L2 entry outside the file.
    must("cd " + folder.path() +
         " && printf '\\200\\0\\0\\0\\377\\0\\0\\0' | dd of=damaged.qcow2 bs=1 seek=$((0x40000)) conv=notrunc status=none");
    const Json j = surveyed(folder.path());
    CHECK(j["qcow2_images"] == 12);
    CHECK(j["raw_images"] == 0);
    // sound, without, on, above, into, out, odd.
    CHECK(j["chain_count"] == 7);
    CHECK(j["broken_chains"] == 4);
    CHECK(j["damage"].size() == 5);
    const std::string text = must(survey_of(folder.path() + " --csv " + (folder / "csv")));
    CHECK(has(text, "without.qcow2: its backing file cannot be used"));
    CHECK(has(text, "damaged.qcow2: L2 entry at 0x40000"));
    CHECK(has(text, "stands on it, expected a chain without loops"));
    CHECK(has(text, "is outside the folder"));
    CHECK(has(text, "short.qcow2: is 15 bytes long"));
    CHECK(has(text, "other file"));
    CHECK(!entry(j["chains"], "image", folder / "above.qcow2")["broken"].is_null());
    CHECK(entry(j["chains"], "image", folder / "on.qcow2")["layer_count"] == 2);
    CHECK(entry(j["chains"], "image", folder / "on.qcow2")["shared_layers"] == 0);
    // One line for each chain, whatever its name.
    const std::string csv = folder.read("csv");
    CHECK(std::count(csv.begin(), csv.end(), '\n') == 8);
    CHECK(has(csv, "/odd \\n\\'`id`\\xff.qcow2\",1,1048576,"));
    // Allowed, it is a raw layer as any other.
    const Json allowed = surveyed(folder.path() + " --allow /etc");
    CHECK(allowed["damage"].size() == 4);
    CHECK(allowed["raw_images"] == 1);
}

TEST_CASE("survey: what a chain that cannot be read might see is not wasted") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 base 1M && qemu-io -f qcow2 -c 'write -q 0 64k' base"
         " && qemu-img create -q -f qcow2 -b base -F qcow2 one && qemu-io -f qcow2 -c 'write -q 0 64k' one && cp one two");
    CHECK(surveyed(folder.path())["wasted_bytes"] == 65536);
    must("cd " + folder.path() +
         " && printf '\\200\\0\\0\\0\\377\\0\\0\\0' | dd of=two bs=1 seek=$((0x40000)) conv=notrunc status=none");
    const Json j = surveyed(folder.path());
    CHECK(j["broken_chains"] == 1);
    CHECK(j["wasted_bytes"] == 0);
}

TEST_CASE("survey: a name whose folder is a link starts from there, as in QEMU") {
    Folder folder;
    must("cd " + folder.path() +
         " && mkdir one two && qemu-img create -q -f qcow2 one/root.qcow2 1M && qemu-img create -q -f qcow2 two/root.qcow2 1M"
         " && qemu-io -c 'write -q 0 64k' two/root.qcow2"
         " && (cd one && qemu-img create -q -f qcow2 -b root.qcow2 -F qcow2 middle.qcow2) && ln -s ../one/middle.qcow2 two/"
         " && (cd two && qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2)");
    const Json j = surveyed(folder.path());
    const Json top = entry(j["chains"], "image", folder / "two/top.qcow2");
    CHECK(top["layer_count"] == 3);
    CHECK(top["live_bytes"] == 65536);
    CHECK(data_of(folder / "two/top.qcow2").size() == 1);
}

TEST_CASE("survey: what belongs to nothing") {
    Folder folder;
    must("cd " + folder.path() +
         " && qemu-img create -q -f qcow2 one.qcow2 1M && qemu-img create -q -f qcow2 two.qcow2 1M"
         " && qemu-img create -q -f qcow2 -b two.qcow2 -F qcow2 three.qcow2");
    must(dmchain() + " index " + (folder / "one.qcow2"));
    must(dmchain() + " index " + (folder / "three.qcow2"));
    qcow2::make_active(folder / "active.qcow2",
                       {.size = 1 << 20, .cluster_bits = 16, .subblock_bits = 12, .backing_name = "one.qcow2"});
    must("cd " + folder.path() +
         " && rm three.qcow2 && touch two.qcow2.compact && cp one.qcow2 two.qcow2.merging && cp one.qcow2 x.named");
    const Json j = surveyed(folder.path());
    CHECK(j["chain_files"] == 2);
    REQUIRE(j["orphans"].size() == 4);
    CHECK(entry(j["orphans"], "path", folder / "three.chain")["reason"].get<std::string>().starts_with(
        "a chain file of which 1 of 2"));
    CHECK(!entry(j["orphans"], "path", folder / "active.qcow2").is_null());
    CHECK(!entry(j["orphans"], "path", folder / "two.qcow2.compact").is_null());
    CHECK(!entry(j["orphans"], "path", folder / "two.qcow2.merging").is_null());
    // A merged file is no chain of its own.
    CHECK(entry(j["chains"], "image", folder / "two.qcow2.merging").is_null());
    CHECK(!entry(j["chains"], "image", folder / "x.named").is_null());
}

TEST_CASE("survey: an image that is written is told, and read all the same") {
    Folder folder;
    must("qemu-img create -q -f qcow2 " + (folder / "a.qcow2") + " 1M");
    const Process qemu({"qemu-io", "-f", "qcow2", "-c", "sleep 600000", "-n", folder / "a.qcow2"});
    qemu.wait_for_lock(101);
    const Json j = surveyed(folder.path());
    CHECK(j["images_being_written"] == 1);
    CHECK(j["broken_chains"] == 0);
}

TEST_CASE("survey: plots, and where they may not go") {
    Folder folder;
    must("cd " + folder.path() + " && mkdir vm && qemu-img create -q -f qcow2 \"vm/a'\\`touch owned\\`.qcow2\" 1M");
    const std::string image = folder / "vm/a'`touch owned`.qcow2";
    const std::string vm = folder / "vm";
    Ran ran = run("PATH=/nowhere " + dmchain() + " survey " + vm + " --plot " + (folder / "x.svg"));
    CHECK(ran.status == 1);
    CHECK(ran.out == "dmchain: gnuplot is not there, which draws the plots: install the package gnuplot-nox\n");
    ran = run(survey_of(vm + " --csv \"" + vm + "/a'\\`touch owned\\`.qcow2\""));
    CHECK(ran.status == 1);
    CHECK(has(ran.out, "is a qcow2 image, which is not overwritten"));
    CHECK(run(survey_of(vm + " --plot /dev/null")).status == 1);
    if (run("gnuplot --version").status != 0) return;
    must("cd " + folder.path() + " && " + survey_of("vm --plot fleet.svg"));
    CHECK(has(folder.read("fleet.svg"), "Chains by length"));
    must("cd " + folder.path() + " && " + dmchain() + " inspect --plot chain.svg \"vm/a'\\`touch owned\\`.qcow2\"");
    CHECK(has(folder.read("chain.svg"), "x60touch owned"));
    CHECK(!std::filesystem::exists(folder / "owned"));
    CHECK(!std::filesystem::exists(folder / "vm/owned"));
    // Nothing but the two pictures.
    must("xmllint --version >/dev/null 2>&1 || exit 0; xmllint --noout " + (folder / "fleet.svg") + " " + (folder / "chain.svg"));
}

}  // namespace dmchain::test
