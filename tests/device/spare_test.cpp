// SPDX-License-Identifier: GPL-2.0-or-later
// A new layer that no device went on in, as a command leaves it that was cut off: gc removes it, and it is in no merge's way. One that
// could be somebody's disk is neither. With devices: tests/target/gc.
#include "device/spare.hpp"

#include <doctest/doctest.h>

#include "chain/chain_file.hpp"
#include "io/crc32c.hpp"
#include "qcow2/active.hpp"
#include "qcow2/log.hpp"
#include "support/active_maker.hpp"
#include "support/folder.hpp"

#include "dm-chain-log.h"

namespace dmchain::test {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A folder with the chain a <- b <- c, which is sealed, and what a test adds.
class Vm : public Folder {
public:
    Vm() {
        must("cd " + path() +
             " && qemu-img create -q -f qcow2 a 1M && qemu-img create -q -f qcow2 -b a -F qcow2 b"
             " && qemu-img create -q -f qcow2 -b b -F qcow2 c && qemu-io -f qcow2 -c 'write -q -P 7 0 64k' b && " +
             dmchain() + " index c --chain vm.chain");
    }

    void layer(const std::string& name, const std::string& below) const {
        qcow2::make_active(*this / name, {.size = 1 << 20, .cluster_bits = 16, .subblock_bits = 12, .backing_name = below});
    }
    ActiveMaker maker(const std::string& name) const { return {read(name), 16}; }
    std::string id(const std::string& name) const {
        const qcow2::LogId id = qcow2::Log(File(*this / name), 16).id();
        return {id.begin(), id.end()};
    }
    // As the target writes it when a device has the layer.
    void own(const std::string& name, const std::string& chain_file = "") const {
        chain_log_owner o{};
        if (!chain_file.empty()) {
            const chain::ChainFile chain{File(*this / chain_file)};
            std::memcpy(o.chain, chain.super().uuid, sizeof o.chain);
        }
        std::memcpy(o.magic, CHAIN_LOG_OWNER_MAGIC, sizeof o.magic);
        o.state = CHAIN_LAYER_RELEASED;
        o.crc = htole32(chain_log_owner_crc(&o));
        std::string bytes = read(name);
        std::memcpy(&bytes[(1 << 16) + offsetof(chain_log_head, owner)], &o, sizeof o);
        write(name, bytes);
    }
    // The layer has data, and its log says that @successor took over, if that is not "".
    void use(const std::string& name, const std::string& successor = "") const {
        ActiveMaker m = maker(name);
        const std::uint64_t at = m.grow();
        m.records({{0, at, 0xffff}});
        const std::string path = *this / "e";
        const std::string length{static_cast<char>(path.size()), 0};
        if (!successor.empty()) m.add(CHAIN_LOG_CLOSE, successor + length + path);
        write(name, m.bytes);
    }
    bool is_spare(const std::string& name) const {
        const File file(*this / name);
        return device::is_spare(file, qcow2::read_header(file, true));
    }
    std::string gc() const {
        const Ran ran = run(dmchain() + " gc " + path());
        CHECK(ran.status == 0);
        return ran.out;
    }
    bool is_there(const std::string& name) const { return std::filesystem::exists(*this / name); }
};

}  // namespace

TEST_CASE("spare: a new layer on a sealed one") {
    const Vm vm;
    vm.layer("e", "c");
    SUBCASE("that nobody had") {
        CHECK(vm.is_spare("e"));
        CHECK(has(vm.gc(), "removed " + (vm / "e") + ": a new layer that no device went on in"));
        CHECK_FALSE(vm.is_there("e"));
    }
    SUBCASE("that is the disk of a device that is gone") {
        vm.own("e");
        CHECK_FALSE(vm.is_spare("e"));
        CHECK(has(vm.gc(), "left alone " + (vm / "e") + ": a layer that is not sealed"));
    }
    SUBCASE("for which the kernel was cut off, and the device went on in another one") {
        vm.layer("f", "c");
        vm.use("f");
        must("cd " + vm.path() + " && " + dmchain() + " recover f --chain f.chain && " + dmchain() +
             " recover e --chain e.chain");
        vm.own("e", "e.chain");
        CHECK_FALSE(vm.is_spare("e"));
        vm.own("e", "f.chain");
        CHECK(vm.is_spare("e"));
        CHECK(vm.gc() == "nothing was left behind\n");  // a chain file lists it
        must("rm " + (vm / "e.chain"));
        CHECK(has(vm.gc(), "removed " + (vm / "e")));
        CHECK(vm.is_there("f"));
    }
    SUBCASE("that is a disk under another name than its chain file has") {
        must("cd " + vm.path() + " && " + dmchain() + " recover e --chain e.chain");
        vm.own("e", "e.chain");
        must("cd " + vm.path() + " && mv e f");
        CHECK_FALSE(vm.is_spare("f"));
        vm.layer("e", "c");
        CHECK_FALSE(vm.is_spare("f"));
    }
    SUBCASE("that has something") {
        vm.use("e");
        CHECK_FALSE(vm.is_spare("e"));
    }
    SUBCASE("to which a device committed nothing") {
        ActiveMaker m = vm.maker("e");
        m.records({});
        vm.write("e", m.bytes);
        CHECK_FALSE(vm.is_spare("e"));
    }
    SUBCASE("that a chain file lists") {
        must("cd " + vm.path() + " && " + dmchain() + " recover e --chain e.chain");
        CHECK(vm.gc() == "nothing was left behind\n");
    }
    SUBCASE("that an image stands on") {
        must("cd " + vm.path() + " && qemu-img create -q -f qcow2 -u -b e -F qcow2 f 1M");
        CHECK(vm.gc() == "nothing was left behind\n");
    }
    SUBCASE("that a command is about to use") {
        must("cd " + vm.path() + " && (flock -s e sleep 20 >/dev/null 2>&1 & echo $! >../pid.$$; sleep 0.5; mv ../pid.$$ pid)");
        CHECK(has(vm.gc(), "left alone " + (vm / "e") + ": another process has it locked"));
        CHECK(has(run(dmchain() + " compact " + (vm / "c") + " --range 1..2").out, "e stands on it"));
        run("kill $(cat " + (vm / "pid") + ")");
    }
    SUBCASE("without one below") {
        must("rm " + (vm / "e"));
        vm.layer("e", "");
        CHECK_FALSE(vm.is_spare("e"));
    }
    SUBCASE("that QEMU made") {
        must("cd " + vm.path() + " && rm e && qemu-img create -q -f qcow2 -b c -F qcow2 e");
        CHECK_FALSE(vm.is_spare("e"));
        CHECK(vm.gc() == "nothing was left behind\n");
    }
}

TEST_CASE("spare: a new layer on one that is not sealed") {
    const Vm vm;
    vm.layer("d", "c");
    vm.layer("e", "d");
    SUBCASE("which goes on") {
        vm.use("d");
        vm.own("e");  // a snapshot that was cut off in the kernel
        CHECK(vm.is_spare("e"));
        must("cd " + vm.path() + " && " + dmchain() + " recover d --chain vm.chain");
        CHECK(has(vm.gc(), "removed " + (vm / "e")));
        CHECK(vm.is_there("d"));
    }
    SUBCASE("which another one took over from") {
        vm.use("d", std::string(16, 'x'));
        vm.own("e");
        CHECK(vm.is_spare("e"));
    }
    SUBCASE("which it took over from") {
        vm.use("d", vm.id("e"));
        CHECK_FALSE(vm.is_spare("e"));
        vm.own("e");
        CHECK(has(vm.gc(), "left alone " + (vm / "e")));
    }
}

TEST_CASE("spare: it is in no merge's way") {
    const Vm vm;
    vm.layer("e", "c");
    SUBCASE("on a sealed layer") {
        must(dmchain() + " compact " + (vm / "c") + " --flatten");
        CHECK(vm.is_there("e"));
        CHECK(has(vm.gc(), "removed " + (vm / "e")));
    }
    SUBCASE("but a disk is") {
        vm.own("e");
        CHECK(has(run(dmchain() + " compact " + (vm / "c") + " --flatten").out, "e stands on it"));
    }
    SUBCASE("on the active layer") {
        vm.layer("f", "e");
        vm.use("e");
        must("cd " + vm.path() + " && " + dmchain() + " recover e --chain vm.chain && " + dmchain() + " compact e --range 0..1");
    }
    must("cd " + vm.path() + " && qemu-img check -q c && qemu-io -f qcow2 -c 'read -q -P 7 0 64k' c");
}

}  // namespace dmchain::test
