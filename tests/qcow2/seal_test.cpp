// SPDX-License-Identifier: GPL-2.0-or-later
// Sealing: for random layers, by what QEMU finds in the result; cut off at every step, with what was not synced
// lost at random; and what is refused.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "io/writable.hpp"
#include "qcow2/check.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/room.hpp"
#include "qcow2/seal.hpp"
#include "qcow2/unseal.hpp"
#include "support/error_of.hpp"
#include "support/random_layer.hpp"

namespace dmchain::test {
namespace {

using namespace dmchain::qcow2;

std::string read_all(const std::string& top) {
    ChainOptions options;
    options.in_use = true;
    const Chain chain(top, options);
    Reader reader(chain);
    std::string out(chain.virtual_size(), '\0');
    if (!out.empty()) reader.read(out.data(), out.size(), 0);
    return out;
}

// What QEMU says: no errors, no leaks, and these bytes.
void require_image(const Folder& folder, const std::string& path, const std::string& disk) {
    const Ran check = run("qemu-img check -f qcow2 " + path);
    INFO(check.out);
    REQUIRE(check.status == 0);
    REQUIRE(check.out.find("No errors were found on the image.") != std::string::npos);
    must("qemu-img convert -f qcow2 -O raw " + path + " " + (folder / "out.raw"));
    REQUIRE((folder.read("out.raw") == disk));
    CHECK((read_all(path) == disk));
    Faults faults(Faults::Mode::collect);
    const Chain chain(path, {}, faults);
    for (const auto& layer : chain.layers()) check_layer(*layer, faults, [](std::uint64_t) {});
    CHECK(faults.count() == 0);
}

std::string error_of(const std::string& path, const SealOptions& o = {}) {
    try {
        seal(path, o);
    } catch (const Error& e) {
        return fmt::format("{} {}", static_cast<int>(e.code()), e.what());
    }
    return "";
}

std::string error_of_unseal(const std::string& path, unsigned bits, unsigned units) {
    return test::error_of([&] { unseal(path, bits, units); });
}

RandomLayerOptions options_of(std::uint64_t seed) {
    gen::Prng random(seed * 77);
    RandomLayerOptions o;
    if (seed % 2) o.bits = static_cast<unsigned>(random.between(12, 21));
    o.subblock_bits = static_cast<unsigned>(random.between(9, 12));
    o.partial = seed % 5 != 0;
    o.operations = static_cast<unsigned>(random.between(0, seed % 3 ? 60 : 600));
    return o;
}

}  // namespace

TEST_CASE("random layers are read by their log, and sealed are images that QEMU finds clean and equal") {
    std::uint64_t partial = 0;
    for (std::uint64_t seed = 1; seed <= 40; seed++) {
        CAPTURE(seed);
        Folder folder;
        const RandomLayerOptions o = options_of(seed);
        CAPTURE(o.bits);
        const RandomLayer layer(folder, "layer.qcow2", seed, o);
        REQUIRE((read_all(layer.path) == layer.disk));
        must("cp " + layer.path + " " + (folder / "filled.qcow2"));
        must("cp " + layer.path + " " + (folder / "dry.qcow2"));

        SealOptions dry;
        dry.dry_run = true;
        const SealResult would = seal(layer.path, dry);
        CHECK(folder.read("layer.qcow2") == folder.read("dry.qcow2"));
        const SealResult done = seal(layer.path, {});
        CHECK(would.clusters == done.clusters);
        CHECK(would.tables == done.tables);
        CHECK(done.partial == layer.partial_clusters);
        CHECK(done.extended_l2 == (o.bits >= 14 && layer.partial_clusters > 0));
        CHECK(done.bytes == std::filesystem::file_size(layer.path));
        require_image(folder, layer.path, layer.disk);
        partial += done.partial;

        const std::string once = folder.read("layer.qcow2");
        CHECK(seal(layer.path, {}).was_sealed);
        CHECK((folder.read("layer.qcow2") == once));

        SealOptions fill;
        fill.fill = true;
        CHECK_FALSE(seal(folder / "filled.qcow2", fill).extended_l2);
        require_image(folder, folder / "filled.qcow2", layer.disk);
    }
    CHECK(partial > 100);
}

TEST_CASE("room: behind what is there, and on a device that ends, where there is some") {
    constexpr unsigned bits = 12;
    const auto at = [](std::uint64_t cluster) { return cluster << bits; };
    Room file(bits, ~std::uint64_t{0} >> bits, "file");
    file.use(0, 1);
    file.use(at(3) + 5, 2 * 4096);
    file.begin_at(at(8));
    CHECK(file.get() == at(8));
    CHECK(file.get(3) == at(9));
    CHECK(file.clusters() == 12);
    CHECK(file.used(5));
    CHECK_FALSE(file.used(6));
    file.release(at(9), 3);
    CHECK(file.clusters() == 9);

    Room device(bits, 12, "/dev/x");
    device.use(0, 1);
    device.use(at(3), 4096);
    device.begin_at(at(10));
    CHECK(device.get(3) == at(4));
    CHECK(device.get(2) == at(10));
    CHECK(device.get(2) == at(1));
    CHECK(device.get() == at(7));
    CHECK_THROWS_WITH(device.get(3), "/dev/x: the device has no room for 12 KiB of metadata in a row: extend it, and seal again");
    CHECK(device.get(2) == at(8));
    CHECK_THROWS(device.get());
}

TEST_CASE("what a sealed layer does not use is given back") {
    Folder folder;
    RandomLayerOptions o;
    o.operations = 2;
    RandomLayer layer(folder, "layer.qcow2", 5, o);
    std::string bytes = layer.maker().bytes;
    bytes.resize(bytes.size() + (64u << 20), 'x');
    folder.write("layer.qcow2", bytes);
    seal(layer.path, {});
    struct stat st {};
    REQUIRE(::stat(layer.path.c_str(), &st) == 0);
    CHECK(st.st_size < 4 << 20);
    CHECK(st.st_blocks * 512 < 1 << 20);  // without the log's first segment
    require_image(folder, layer.path, layer.disk);
}

namespace {

struct Cut {};

// A file system under the seal, of which only what was synced is sure.
class Disk {
public:
    Disk(std::string path, std::uint64_t steps) : path_(std::move(path)), steps_(steps) {
        durable_ = now();
        Writable::watch = [this](Writable::Step step, const void* data, std::uint64_t bytes, std::uint64_t offset) {
            if (count_++ == steps_) throw Cut();
            if (step == Writable::Step::sync) {
                durable_ = now();
                pending_.clear();
            }
            Change c{step, offset, bytes, {}};
            if (data) c.data.assign(static_cast<const char*>(data), bytes);
            if (step != Writable::Step::sync) pending_.push_back(std::move(c));
        };
    }
    ~Disk() { Writable::watch = nullptr; }
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    // The power went: what was not synced is there or not, by sectors.
    void lose(gen::Prng& random) {
        Writable::watch = nullptr;
        std::string bytes = durable_;
        for (const Change& c : pending_) {
            if (c.step == Writable::Step::resize) {
                if (random.chance(50)) bytes.resize(c.bytes);
                continue;
            }
            for (std::uint64_t at = 0; at < c.bytes; at += 512) {
                if (random.chance(50)) continue;
                const std::uint64_t n = std::min<std::uint64_t>(512, c.bytes - at);
                // A file grows with what is written; what is punched past its end is nothing.
                if (c.offset + at + n > bytes.size()) {
                    if (c.step == Writable::Step::punch) continue;
                    bytes.resize(c.offset + at + n);
                }
                if (c.step == Writable::Step::punch)
                    std::memset(&bytes[c.offset + at], 0, n);
                else
                    std::memcpy(&bytes[c.offset + at], &c.data[at], n);
            }
        }
        std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
    }

private:
    struct Change {
        Writable::Step step;
        std::uint64_t offset, bytes;
        std::string data;
    };
    std::string now() const { return read_file(path_); }
    std::string path_;
    std::uint64_t steps_;
    std::uint64_t count_ = 0;
    std::string durable_;
    std::vector<Change> pending_;
};

}  // namespace

TEST_CASE("sealing that is cut off at any step leaves the layer or the image, and can be finished") {
    std::uint64_t in_use = 0, sealed = 0;
    for (std::uint64_t seed = 1; seed <= 6; seed++) {
        Folder folder;
        RandomLayerOptions o;
        o.bits = seed % 3 == 0 ? 12 : 16;
        o.operations = 30;
        const RandomLayer layer(folder, "layer.qcow2", seed, o);
        must("cp " + layer.path + " " + (folder / "copy"));
        SealOptions how;
        how.fill = seed % 2;
        gen::Prng random(seed);
        bool whole = false;
        for (std::uint64_t step = 0; !whole; step++) {
            CAPTURE(seed);
            CAPTURE(step);
            must("cp " + (folder / "copy") + " " + layer.path);
            {
                Disk disk(layer.path, step);
                try {
                    seal(layer.path, how);
                    whole = true;
                } catch (const Cut&) {}
                disk.lose(random);
            }
            if (is_in_use(File(layer.path)))
                in_use++;
            else
                sealed++;
            REQUIRE((read_all(layer.path) == layer.disk));
            // Every few steps by QEMU, too: it takes longer than all else.
            const bool ask = step % 8 == 0 || !is_in_use(File(layer.path));
            if (ask && !is_in_use(File(layer.path))) require_image(folder, layer.path, layer.disk);
            seal(layer.path, how);
            if (ask) require_image(folder, layer.path, layer.disk);
            REQUIRE((read_all(layer.path) == layer.disk));
            CHECK(std::filesystem::file_size(layer.path) % 4096 == 0);
        }
    }
    CHECK(in_use > 20);
    CHECK(sealed > 10);
}

TEST_CASE("a sealed layer becomes active again as it was, and can be sealed again") {
    for (std::uint64_t seed = 1; seed <= 20; seed++) {
        CAPTURE(seed);
        Folder folder;
        const RandomLayerOptions o = options_of(seed * 3 + 1);
        if (o.bits < 14) continue;  // filled when it is sealed
        const unsigned units = std::max(o.subblock_bits, o.bits - 5);
        const RandomLayer layer(folder, "layer.qcow2", seed, o);
        const std::uint64_t clusters = Log(File(layer.path), o.bits).clusters().size();
        seal(layer.path, {});
        const std::uint64_t size = std::filesystem::file_size(layer.path);
        unseal(layer.path, o.bits, units);
        CHECK(is_in_use(File(layer.path)));
        const Log log(File(layer.path), o.bits);
        CHECK(log.clusters().size() == clusters);
        CHECK(log.size() == layer.disk.size());
        CHECK(std::filesystem::file_size(layer.path) == std::max(size, log.end()));
        REQUIRE((read_all(layer.path) == layer.disk));
        CHECK(error_of_unseal(layer.path, o.bits, units).ends_with(": is in use already: 'dmchain recover' goes on with it"));
        seal(layer.path, {});
        require_image(folder, layer.path, layer.disk);
    }
}

TEST_CASE("a sealed layer keeps its unit, as long as what it says is true") {
    Folder folder;
    RandomLayer layer(folder, "layer.qcow2", 3, {});
    seal(layer.path, {});
    const auto unit = [&] { return Chain(layer.path, {}).top().unit(); };
    REQUIRE(Chain(layer.path, {}).top().image()->header().extended_l2());
    CHECK(unit() == 4096);
    std::string bytes = folder.read("layer.qcow2");
    const std::size_t extension = bytes.find("DMCH");
    REQUIRE(extension < 512);
    bytes[extension + 11] = 10;
    folder.write("layer.qcow2", bytes);
    CHECK_THROWS_WITH(unit(), doctest::Contains("is 10 bits, expected 11 to 16"));
    bytes[extension + 11] = 13;
    folder.write("layer.qcow2", bytes);
    CHECK_THROWS_WITH(read_all(layer.path),
                      doctest::Contains("expected whole units of 8192 bytes in a layer that dm-chain sealed"));
    bytes[88] = 0;  // the autoclear bit: what the extension says does not count
    folder.write("layer.qcow2", bytes);
    CHECK(unit() == 2048);
    CHECK((read_all(layer.path) == layer.disk));
}

TEST_CASE("becoming active again that is cut off leaves one or the other") {
    std::uint64_t in_use = 0, sealed = 0;
    for (std::uint64_t seed = 1; seed <= 6; seed++) {
        Folder folder;
        RandomLayerOptions o;
        o.operations = 30;
        const RandomLayer layer(folder, "layer.qcow2", seed, o);
        seal(layer.path, {});
        must("cp " + layer.path + " " + (folder / "copy"));
        gen::Prng random(seed);
        bool whole = false;
        for (std::uint64_t step = 0; !whole; step++) {
            CAPTURE(seed);
            CAPTURE(step);
            must("cp " + (folder / "copy") + " " + layer.path);
            {
                Disk disk(layer.path, step);
                try {
                    unseal(layer.path, 16, 12);
                    whole = true;
                } catch (const Cut&) {}
                disk.lose(random);
            }
            if (is_in_use(File(layer.path))) {
                in_use++;
                seal(layer.path, {});
            } else {
                sealed++;
            }
            require_image(folder, layer.path, layer.disk);
        }
    }
    CHECK(in_use > 6);
    CHECK(sealed > 20);
}

TEST_CASE("a large layer's log goes on in a second segment when it becomes active again") {
    Folder folder;
    const std::uint64_t clusters = 60000;
    make_active(folder / "layer.qcow2", {clusters * 65536, 16, 12, "base.qcow2"});
    must("qemu-img create -q -f qcow2 " + (folder / "base.qcow2") + " 1G");
    ActiveMaker m(folder.read("layer.qcow2"), 16);
    const std::uint64_t segment = m.grow(64);
    m.next(segment, 64 * 65536);
    std::vector<ActiveMaker::Record> some;
    for (std::uint64_t c = 0; c < clusters; c++) {
        some.push_back({c, 0, c % 3 == 0 ? 5ull << 32 : 0xffffull << 32});
        if (some.size() == 169 || c + 1 == clusters) m.records(std::exchange(some, {}));
    }
    folder.write("layer.qcow2", m.bytes);
    const auto before = Log(File(folder / "layer.qcow2"), 16).clusters();
    CHECK(before.size() == clusters);
    seal(folder / "layer.qcow2", {});
    CHECK(run("qemu-img check " + (folder / "layer.qcow2")).status == 0);
    unseal(folder / "layer.qcow2", 16, 12);
    const Log log(File(folder / "layer.qcow2"), 16);
    CHECK(log.segments().size() == 2);
    REQUIRE(log.clusters().size() == clusters);
    bool same = true;
    for (std::size_t i = 0; i < clusters; i++) same &= log.clusters()[i].bitmap == before[i].bitmap;
    CHECK(same);
}

TEST_CASE("what cannot become active again is refused") {
    Folder folder;
    RandomLayer layer(folder, "layer.qcow2", 3, {});
    seal(layer.path, {});
    CHECK(error_of_unseal(folder / "base.qcow2", 16, 12) ==
          (folder / "base.qcow2") +
              ": was not sealed by dm-chain, or was written to by another program since: writes need a new layer "
              "on top; leave out --in-place");
    CHECK(error_of_unseal(layer.path, 16, 11) ==
          layer.path +
              ": has clusters of 65536 bytes and units of 4096, the chain needs 65536 and 2048: writes need a new layer on top; "
              "leave out --in-place");
    must("qemu-img create -q -f qcow2 -F qcow2 -b " + layer.path + " " + (folder / "above.qcow2"));
    const Ran qemu = run("qemu-io -f qcow2 -r -c 'sleep 60000' " + layer.path + " & qemu=$!; sleep 1; " + dmchain() + " seal " +
                         layer.path + "; kill $qemu");
    CHECK(qemu.out.find(layer.path + ": is open in qemu-io (process ") != std::string::npos);
    CHECK(qemu.out.find("), which lets nobody write to it: stop it first") != std::string::npos);
    must("qemu-io -f qcow2 -c 'write -q -P 9 0 512' " + layer.path);
    CHECK(error_of_unseal(layer.path, 16, 12).find("was written to by another program since") != std::string::npos);
    must(dmchain() + " compact " + (folder / "above.qcow2") + " --range 1..2 --compress");
    CHECK(error_of_unseal(folder / "above.qcow2", 16, 11) ==
          (folder / "above.qcow2") + ": has compressed clusters: it cannot become active again: writes need a new layer on top");
}

TEST_CASE("what cannot be sealed is refused") {
    Folder folder;
    RandomLayerOptions o;
    o.operations = 5;
    RandomLayer layer(folder, "layer.qcow2", 3, o);
    CHECK(error_of(folder / "no") == "1 " + (folder / "no") + ": cannot open: No such file or directory");
    CHECK(error_of(folder / "base.raw").starts_with("1 " + (folder / "base.raw") + ": is not a qcow2 image"));
    const std::string nothing =
        ": is no layer of dm-chain, or was written to by another program since it was sealed: nothing to seal";
    CHECK(error_of(folder / "base.qcow2") == "1 " + (folder / "base.qcow2") + nothing);
    const auto busy = std::make_unique<Writable>(Writable::open(layer.path));
    CHECK(error_of(layer.path) == "1 " + layer.path + ": another dmchain works on it: wait until it is done");
}

TEST_CASE("who writes to a sealed layer by other means makes it a plain image") {
    Folder folder;
    RandomLayerOptions o;
    const RandomLayer layer(folder, "layer.qcow2", 7, o);
    seal(layer.path, {});
    CHECK(seal(layer.path, {}).was_sealed);
    must("qemu-io -f qcow2 -c 'write -q -P 9 0 512' " + layer.path);
    CHECK(error_of(layer.path).find("was written to by another program since it was sealed") != std::string::npos);
    std::string disk = layer.disk;
    disk.replace(0, 512, 512, '\x09');
    require_image(folder, layer.path, disk);
}

TEST_CASE("QEMU refuses a layer in use with the feature's name") {
    Folder folder;
    const RandomLayer layer(folder, "layer.qcow2", 9, {});
    for (const char* command : {"qemu-img check -f qcow2 ", "qemu-img info -f qcow2 ", "qemu-io -f qcow2 -c 'read 0 512' "}) {
        const Ran ran = run(command + layer.path);
        CHECK(ran.status != 0);
        CHECK(ran.out.find("dm-chain active layer (run: dmchain seal)") != std::string::npos);
    }
    try {
        const Chain chain(layer.path, {});
        FAIL("opened");
    } catch (const Error& e) {
        CHECK(e.what() == layer.path +
                              ": is in use by dm-chain, or was left by it: 'dmchain seal' makes a plain qcow2 image of it, "
                              "'dmchain recover' goes on with it");
        CHECK(e.code() == Exit::failed);
    }
}

}  // namespace dmchain::test
