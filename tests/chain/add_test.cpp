// SPDX-License-Identifier: GPL-2.0-or-later
// Layers that are added to the one below them: it reads like the topmost of them afterwards, and is a sound image. Made and read
// by QEMU.
#include <doctest/doctest.h>

#include <random>

#include "chain/add.hpp"
#include "io/writable.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

namespace dmchain::test {

using namespace dmchain::chain;

namespace {

qcow2::Chain open_upper(const std::string& top, std::size_t layers) {
    qcow2::ChainOptions o;
    o.depth = layers;
    return {top, o};
}

bool add_to(const Folder& folder, const std::string& lower, std::size_t layers, AddTo to = {}) {
    const qcow2::Chain upper = open_upper(folder / "top", layers);
    to.path = folder / lower;
    to.top = folder / "top";
    return add(upper, to, [](std::uint64_t) {});
}

// What to write to an image, for qemu-io: pieces of many sizes.
std::string writes(std::mt19937& random, std::uint64_t size, unsigned count, bool discards) {
    std::string out;
    for (unsigned i = 0; i < count; i++) {
        const std::uint64_t unit = 512u << random() % 10, at = random() % (size / unit) * unit;
        const std::uint64_t bytes = std::min(size - at, unit * (1 + random() % 8));
        const unsigned kind = random() % (discards ? 6 : 5);
        if (kind < 4)
            out += fmt::format(" -c 'write -q -P {} {} {}'", 1 + random() % 255, at, bytes);
        else
            out += fmt::format(" -c '{} -q {} {}'", kind == 4 ? "write -z" : "discard", at, bytes);
    }
    return out;
}

}  // namespace

TEST_CASE("layers added to the one below: every kind of image, at random") {
    const char* lowers[] = {"",
                            "cluster_size=4k",
                            "cluster_size=2M",
                            "extended_l2=on",
                            "extended_l2=on,cluster_size=128k",
                            "compat=1.1,lazy_refcounts=on",
                            "cluster_size=32k,preallocation=metadata"};
    for (unsigned seed = 1; seed <= 28; seed++) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        const std::string kind = lowers[seed % std::size(lowers)];
        const bool below = !kind.ends_with("metadata") && random() % 2, grows = random() % 2;
        CAPTURE(kind);
        Folder folder;
        const std::uint64_t size = (3 << 20) + (random() % 2 ? 512 * 37 : 0), larger = grows ? size + (5 << 20) + 1536 : size;
        const std::string cd = "cd " + folder.path() + " && ";
        must(cd + fmt::format("qemu-img create -q -f qcow2 base {} && qemu-io -f qcow2 {} base", size,
                              writes(random, size, 20, false)));
        must(cd + fmt::format("qemu-img create -q -f qcow2 {} {} low {}", kind.empty() ? "" : "-o " + kind,
                              below ? "-b base -F qcow2" : "", size));
        if (kind != "cluster_size=2M" && !kind.ends_with("metadata") && random() % 3 == 0)
            must(cd + "qemu-io -f qcow2 -c 'write -q -c -P 77 1M 1M' low");
        must(cd + fmt::format("qemu-io -f qcow2 {} low", writes(random, size, 20, !below)));
        const bool extended = kind.starts_with("extended") && random() % 2;
        const std::string options = extended ? "-o extended_l2=on" : "";
        must(cd + fmt::format("qemu-img create -q -f qcow2 {} -b low -F qcow2 mid {} && qemu-io -f qcow2 {} mid", options, size,
                              writes(random, size, 15, false)));
        must(cd + fmt::format("qemu-img create -q -f qcow2 {} -b mid -F qcow2 top {} && qemu-io -f qcow2 {} top", options, larger,
                              writes(random, larger, 15, false)));
        must(cd + "qemu-img convert -f qcow2 -O raw top expected");
        {
            const qcow2::Chain upper = open_upper(folder / "top", 2);
            const qcow2::Chain all(folder / "top", {});
            const qcow2::Layer& low = *all.layers()[all.layers().size() - 3];
            const std::optional<std::string> why = cannot_add_to(low, upper);
            if (why) {
                CHECK(*why == "has larger subclusters than the layers above it");
                continue;
            }
        }
        const std::uint64_t before = File(folder / "low").size();
        MergeSize measured;
        {
            const qcow2::Chain upper = open_upper(folder / "top", 2);
            const qcow2::Chain all(folder / "top", {});
            measured = measure_add(*all.layers()[all.layers().size() - 3], upper);
        }
        // The chain reads the same at any moment, also after a cut; and then it goes on.
        AddTo to;
        int asked = 0;
        if (random() % 2) {
            to.stop = [&] { return ++asked > 5; };
            const bool done = add_to(folder, "low", 2, to);
            CHECK(done == (asked <= 5));
            must(cd + "qemu-img compare -q -f qcow2 -F raw top expected");
            to.stop = nullptr;
            to.goes_on = true;
        }
        CHECK(add_to(folder, "low", 2, to));
        must(cd + "qemu-img compare -q -f qcow2 -F raw top expected");
        must(cd + "qemu-img compare -q -f qcow2 -F raw low expected");
        must(cd + "qemu-img check -q -f qcow2 low");
        CHECK(File(folder / "low").size() <= before + measured.space);
        CHECK(File(folder / "low").size() >= before - (before >> 1));
    }
}

TEST_CASE("layers added to the one below: power cuts") {
    // What was written since the last sync, in any part, may be lost: at each sync the file is as it was before, with some of that.
    for (unsigned seed = 1; seed <= 6; seed++) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        Folder folder;
        const std::string cd = "cd " + folder.path() + " && ";
        const std::uint64_t size = 6 << 20;
        must(cd + fmt::format("qemu-img create -q -f qcow2 {} low {} && qemu-io -f qcow2 {} low",
                              seed % 2 ? "" : "-o extended_l2=on", size, writes(random, size, 10, false)));
        must(cd + fmt::format("qemu-img create -q -f qcow2 -b low -F qcow2 top {} && qemu-io -f qcow2 {} top", size + (3 << 20),
                              writes(random, size, 25, false)));
        must(cd + "qemu-img convert -f qcow2 -O raw top expected && cp low before");
        struct Write {
            std::vector<unsigned char> data;
            std::uint64_t offset;
        };
        std::vector<Write> since;
        int cuts = 0;
        const auto cut = [&] {
            must(cd + "cp before low.cut && cp top top.cut && qemu-img rebase -u -f qcow2 -b low.cut -F qcow2 top.cut");
            std::mt19937 choice(seed * 1000u + static_cast<unsigned>(cuts));
            {
                Writable to = Writable::open(folder / "low.cut");
                for (const Write& w : since)
                    for (std::size_t at = 0; at < w.data.size(); at += 512) {
                        const std::size_t n = std::min<std::size_t>(512, w.data.size() - at);
                        if (choice() % 2) to.write(&w.data[at], n, w.offset + at);
                    }
            }
            must(cd + "qemu-img compare -q -f qcow2 -F raw top.cut expected");
            // Leaks are no harm (3), damage is (2).
            must(cd + "{ qemu-img check -q -f qcow2 low.cut; r=$?; [ $r = 0 -o $r = 3 ]; }");
            cuts++;
        };
        bool quiet = false;
        Writable::watch = [&](Writable::Step step, const void* data, std::uint64_t bytes, std::uint64_t offset) {
            if (quiet) return;
            quiet = true;
            const auto* p = static_cast<const unsigned char*>(data);
            if (step == Writable::Step::write) {
                since.push_back({{p, p + bytes}, offset});
            } else if (step == Writable::Step::punch) {
                since.push_back({std::vector<unsigned char>(bytes), offset});
            } else if (step == Writable::Step::sync) {
                cut();
                must(cd + "cp low before");
                since.clear();
            }
            quiet = false;
        };
        CHECK(add_to(folder, "low", 1));
        Writable::watch = nullptr;
        CHECK(cuts >= 3);
        must(cd + "qemu-img compare -q -f qcow2 -F raw low expected && qemu-img check -q -f qcow2 low");
    }
}

TEST_CASE("what cannot be added to is said") {
    Folder folder;
    const std::string cd = "cd " + folder.path() + " && ";
    const auto why = [&](const std::string& options, const std::string& more) {
        must(cd + "rm -f low top; qemu-img create -q -f qcow2 " + options + " low 32M && " + more +
             " && qemu-img create -q -f qcow2 -b low -F qcow2 top && qemu-io -f qcow2 -c 'write -q 0 64k' top");
        const qcow2::Chain upper = open_upper(folder / "top", 1);
        const qcow2::Chain all(folder / "top", {});
        return cannot_add_to(*all.layers().front(), upper).value_or("");
    };
    CHECK(why("", "true").empty());
    CHECK(why("-o compat=0.10", "true") == "is of qcow2 version 2");
    CHECK(why("", "qemu-img snapshot -c one low") == "has internal snapshots");
    CHECK(why("", "qemu-img bitmap --add low b") == "has persistent bitmaps");
    CHECK(why("-o refcount_bits=8", "true") == "has refcounts that are not of 16 bits");
    CHECK(why("-o data_file=data", "true") == "has an external data file");
    must(cd + "qemu-img create -q -f raw low 4M && rm top && qemu-img create -q -f qcow2 -b low -F raw top");
    const qcow2::Chain upper = open_upper(folder / "top", 1), all(folder / "top", {});
    CHECK(cannot_add_to(*all.layers().front(), upper).value_or("").starts_with("is a raw image"));
    CHECK(why("-o cluster_size=512", "true") == "has a refcount table that is too small for more clusters");
}

}  // namespace dmchain::test
