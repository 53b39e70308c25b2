// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain check on refcounts: too low, too high, flags that contradict them, tables of internal snapshots and bitmaps;
// each with its message, and over many damaged images together with what qemu-img check says of them.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t copied = std::uint64_t{1} << 63;
constexpr const char* repair = "repair it with \"qemu-img check -r all\"";

// What check prints of the image, its path left out.
Ran check(const Folder& folder, const std::string& bytes) {
    folder.write("x.qcow2", bytes);
    Ran ran = run(fmt::format("cd {} && {} check x.qcow2", folder.path(), dmchain()));
    const std::string prefix = folder / "x.qcow2: ";
    for (std::size_t at; (at = ran.out.find(prefix)) != std::string::npos;) ran.out.erase(at, prefix.size());
    return ran;
}

std::string faults(const std::vector<std::string>& messages) {
    std::string all;
    for (const std::string& m : messages) all += m + "\n";
    return all + fmt::format("x.qcow2: 1 layer checked, {} fault{}\n", messages.size(), messages.size() == 1 ? "" : "s");
}

// Reads and damages the metadata of an image that QEMU made.
class Image {
public:
    explicit Image(std::string data) : bytes(std::move(data)) {}
    std::uint64_t get(std::uint64_t at, unsigned n) const {
        std::uint64_t v = 0;
        for (unsigned i = 0; i < n; i++) v = v << 8 | static_cast<unsigned char>(bytes.at(at + i));
        return v;
    }
    void put64(std::uint64_t at, std::uint64_t v) {
        for (unsigned i = 0; i < 8; i++) bytes.at(at + i) = static_cast<char>(v >> (56 - 8 * i));
    }
    std::uint64_t cluster() const { return std::uint64_t{1} << get(20, 4); }
    std::uint64_t clusters() const { return (bytes.size() + cluster() - 1) / cluster(); }
    // Sets the refcount of a cluster that lies in the first refcount block.
    void refcount(std::uint64_t number, std::uint64_t value) {
        const unsigned bits = 1u << get(96, 4);
        const std::uint64_t block = get(get(48, 8), 8);
        if (bits < 8) {
            char& c = bytes.at(block + number * bits / 8);
            const unsigned shift = number * bits % 8;
            c = static_cast<char>((c & ~(((1u << bits) - 1) << shift)) | ((value & ((1u << bits) - 1)) << shift));
        } else {
            for (unsigned i = 0; i < bits / 8; i++)
                bytes.at(block + number * bits / 8 + i) =
                    static_cast<char>(bits / 8 - i > 8 ? 0 : value >> (8 * (bits / 8 - 1 - i)));
        }
    }
    // Bytes in the image of the entries, not 0, of the current state's L1 or L2 tables.
    std::vector<std::uint64_t> entries(bool l2) const {
        std::vector<std::uint64_t> out;
        const std::uint64_t step = get(72, 8) & 16 ? 16 : 8;
        for (std::uint64_t i = 0; i < get(36, 4); i++) {
            const std::uint64_t at = get(40, 8) + 8 * i;
            const std::uint64_t table = get(at, 8) & 0x00fffffffffffe00;
            if (table == 0) continue;
            if (!l2) out.push_back(at);
            for (std::uint64_t k = 0; l2 && k < cluster(); k += step)
                if (get(table + k, 8) != 0) out.push_back(table + k);
        }
        return out;
    }
    std::string bytes;
};

}  // namespace

TEST_CASE("refcounts: what is shared with a snapshot needs as many") {
    Folder folder;
    const Maker good({.snapshot = true});
    CHECK(check(folder, good.bytes).out == "x.qcow2: 1 layer checked, no faults\n");

    Maker low = good;
    low.put16(low.refcount_block() + 2 * 4, 1);  // the shared L2 table
    low.put16(low.refcount_block() + 2 * 6, 1);  // data cluster 1
    low.put16(low.refcount_block() + 2 * 8, 0);  // compressed data
    Ran ran = check(folder, low.bytes);
    CHECK(ran.status == 3);
    CHECK(ran.out ==
          faults({fmt::format("refcount of the cluster at 0x4000 (L2 table) is 1, expected at least 2; {}", repair),
                  fmt::format("refcount of the cluster at 0x6000 (data) is 1, expected at least 2; {}", repair),
                  fmt::format("refcount of the cluster at 0x8000 (compressed data) is 0, expected at least 2; {}", repair)}));
}

TEST_CASE("refcounts: more than are needed waste space, and are no fault") {
    Folder folder;
    Maker m;
    m.put64(m.l2_entry(1), 0);               // forgets data cluster 1
    m.put16(m.refcount_block() + 2 * 7, 3);  // data cluster 2
    m.put64(m.l2_entry(5), m.data(2));       // whose flag does not contradict that
    Ran ran = check(folder, m.bytes);
    CHECK(ran.status == 0);
    CHECK(ran.out ==
          "leaked clusters: 2 (8 KiB), in use by their refcounts, but by nothing else; no data is in danger, "
          "\"qemu-img check -r leaks\" frees them\nx.qcow2: 1 layer checked, no faults\n");
    const Json j = Json::parse(must(dmchain() + " check --json " + folder / "x.qcow2"));
    CHECK(j["leaks"] ==
          Json::parse(fmt::format(R"([{{"path": "{}", "leaked_clusters": 2, "leaked_bytes": 8192}}])", folder / "x.qcow2")));
    // Beside a fault it would not be known whether they are.
    m.put64(m.l2_entry(0), m.data(0) + 512);
    ran = check(folder, m.bytes);
    CHECK(ran.status == 3);
    CHECK(
        ran.out ==
        faults({"L2 entry at 0x4000 for disk offset 0x0 is a cluster at 0x5200, expected a multiple of the cluster size 4096"}));
}

TEST_CASE("refcounts: the copied flag says that it is 1") {
    Folder folder;
    Maker m;
    m.put64(m.l1(), m.l2());
    m.put64(m.l2_entry(0), m.data(0));
    m.put64(m.l2_entry(4), m.get64(m.l2_entry(4)) | copied);
    m.put16(m.refcount_block() + 2 * 6, 2);
    CHECK(
        check(folder, m.bytes).out ==
        faults(
            {fmt::format("L1 entry at 0x3000 has no copied flag, expected it, as the refcount of the cluster at 0x4000 is 1; {}",
                         repair),
             fmt::format("L2 entry at 0x4000 has no copied flag, expected it, as the refcount of the cluster at 0x5000 is 1; {}",
                         repair),
             fmt::format(
                 "L2 entry at 0x4008 has the copied flag, expected none, as the refcount of the cluster at 0x6000 is 2; {}",
                 repair),
             fmt::format("L2 entry at 0x4020 of a compressed cluster has the copied flag, expected none; {}", repair)}));
}

TEST_CASE("refcounts: L2 tables of snapshots that are not looked at, and what lies past the end of the disk") {
    Folder folder;
    // The snapshot gets an L2 table of its own, a copy: cluster 11.
    Maker m({.snapshot = true});
    m.bytes.append(m.bytes, m.l2(), m.cluster);
    m.put64(10 * m.cluster, 11 * m.cluster);
    m.put16(m.refcount_block() + 2 * 4, 1);
    m.put16(m.refcount_block() + 2 * 11, 1);
    m.put64(m.l1(), m.l2() | copied);
    CHECK(check(folder, m.bytes).out == "x.qcow2: 1 layer checked, no faults\n");
    const std::uint64_t table = 11 * m.cluster;
    m.put64(table + 8 * 0, m.data(0) + 512);
    m.put64(table + 8 * 1, m.l1());
    m.put64(table + 8 * 5, 1u << 20);
    m.put64(table + 8 * 6, m.data(1) | std::uint64_t{1} << 57);
    m.put64(m.l2_entry(100), 2u << 20);
    for (unsigned c : {5u, 6u, 7u}) m.put16(m.refcount_block() + 2 * c, 1);
    for (unsigned i : {0u, 1u, 5u}) m.put64(m.l2_entry(i), m.get64(m.l2_entry(i)) | copied);
    const Ran ran = check(folder, m.bytes);
    CHECK(ran.status == 3);
    CHECK(
        ran.out ==
        faults(
            {"L2 entry at 0x4320 of the current state is a cluster at 0x200000, expected it to start within the file's 49152 "
             "bytes",
             "L2 entry at 0xb000 of snapshot 'old' is a cluster at 0x5200, expected a multiple of the cluster size 4096",
             "L2 entry at 0xb008 of snapshot 'old' is a cluster at 0x3000, expected it outside the L1 table at 0x3000",
             "L2 entry at 0xb028 of snapshot 'old' is a cluster at 0x100000, expected it to start within the file's 49152 bytes",
             "L2 entry at 0xb030 of snapshot 'old' is 0x0200000000006000, expected the reserved bits 0x3f000000000001fe to be "
             "0"}));
    // Looked at, they have the places of its disk.
    CHECK(run(dmchain() + " check --snapshot old " + folder / "x.qcow2").out.find("L2 entry at 0xb000 for disk offset 0x0") !=
          std::string::npos);
}

TEST_CASE("refcounts: bitmaps use clusters too") {
    Folder folder;
    must(
        fmt::format("cd {} && qemu-img create -q -f qcow2 -o cluster_size=4k x.qcow2 64M && qemu-img bitmap --add x.qcow2 b0 && "
                    "qemu-img bitmap --add -g 512 x.qcow2 b1 && qemu-io -c 'write 1M 3M' x.qcow2",
                    folder.path()));
    const std::string good = folder.read("x.qcow2");
    CHECK(check(folder, good).out == "x.qcow2: 1 layer checked, no faults\n");
    Image image(good);
    std::uint64_t at = 104;
    while (image.get(at, 4) != 0x23852875) at += 8 + (image.get(at + 4, 4) + 7) / 8 * 8;
    const std::uint64_t directory = image.get(at + 24, 8), table = image.get(directory, 8);
    image.refcount(table / 4096, 0);
    CHECK(check(folder, image.bytes).out ==
          faults({fmt::format("refcount of the cluster at {:#x} (bitmap) is 0, expected at least 1; {}", table, repair)}));
    image = Image(good);
    image.put64(directory, table + 512);
    CHECK(check(folder, image.bytes).out ==
          faults({fmt::format("table of bitmap 1 is at {:#x} with 1 entries, expected it aligned and within the file's {} bytes",
                              table + 512, good.size())}));
}

TEST_CASE("refcounts: damaged at random, qemu-img check finds the same") {
    const std::vector<std::string> options = {"cluster_size=4k",
                                              "cluster_size=512",
                                              "cluster_size=64k,refcount_bits=1",
                                              "cluster_size=4k,refcount_bits=4",
                                              "cluster_size=16k,extended_l2=on,refcount_bits=64",
                                              "cluster_size=4k,refcount_bits=8"};
    Folder folder;
    std::mt19937_64 random(1);
    int corrupt = 0, leaking = 0, sound = 0;
    for (const std::string& o : options) {
        // One snapshot more, and the refcounts of clusters with many compressed ones would not fit.
        const bool snapshots = !o.ends_with("bits=1") && !o.ends_with("bits=4");
        must(
            fmt::format("cd {0} && rm -f *.qcow2 && qemu-img create -q -f qcow2 -o {1} a.qcow2 512k && "
                        "qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 100k 20k' -c 'write -z 200k 64k' a.qcow2 && "
                        "qemu-img convert -c -O qcow2 -o {1} a.qcow2 b.qcow2 && qemu-io -c 'write -P 3 80k 40k' b.qcow2",
                        folder.path(), o));
        if (snapshots)
            must(
                fmt::format("cd {} && qemu-img snapshot -c one b.qcow2 && qemu-io -c 'write -P 4 16k 70k' b.qcow2 && "
                            "qemu-img snapshot -c two b.qcow2 && qemu-io -c 'write -P 5 300k 10k' b.qcow2",
                            folder.path()));
        const std::string good = folder.read("b.qcow2");
        for (int round = 0; round < 20; round++) {
            CAPTURE(o);
            CAPTURE(round);
            Image image(good);
            const auto any = [&](const std::vector<std::uint64_t>& v) { return v[random() % v.size()]; };
            for (std::uint64_t n = round == 0 ? 0 : 1 + random() % 2; n > 0; n--) {
                const std::uint64_t entry = any(image.entries(random() % 4 != 0));
                switch (random() % 4) {
                case 0: image.refcount(random() % image.clusters(), random() % 4); break;
                case 1: image.put64(entry, image.get(entry, 8) ^ copied); break;
                case 2: image.put64(any(image.entries(true)), 0); break;
                default: image.refcount(random() % image.clusters(), 3); break;
                }
            }
            const std::string path = folder.write("c.qcow2", image.bytes);
            const Json theirs = Json::parse(run("qemu-img check --output=json " + path + " 2>/dev/null").out);
            const Ran ran = run(dmchain() + " check --json " + path);
            const Json ours = Json::parse(ran.out);
            INFO(theirs.dump());
            INFO(ours.dump());
            REQUIRE(theirs["check-errors"] == 0);
            const bool wrong = theirs.value("corruptions", 0) != 0;
            CHECK((ours["fault_count"] != 0) == wrong);
            CHECK(ran.status == (wrong ? 3 : 0));
            std::uint64_t leaked = 0;
            for (const Json& l : ours["leaks"]) leaked += l["leaked_clusters"].get<std::uint64_t>();
            if (!wrong) CHECK(leaked == theirs.value("leaks", 0u));
            (wrong ? corrupt : leaked != 0 ? leaking : sound)++;
        }
    }
    // The damage was of every kind.
    CHECK(corrupt > 20);
    CHECK(leaking > 10);
    CHECK(sound >= static_cast<int>(options.size()));
}

}  // namespace dmchain::test
