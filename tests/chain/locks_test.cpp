// SPDX-License-Identifier: GPL-2.0-or-later
// The image locks of QEMU in the commands and in the library: every file of a chain that another process writes is named
// before it is used, and QEMU refuses what is being read or written here. Block devices: tests/target/devices.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "chain/builder.hpp"
#include "io/error.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/seal.hpp"
#include "qcow2/unseal.hpp"
#include "support/error_of.hpp"
#include "support/process.hpp"
#include "support/random_layer.hpp"

namespace dmchain::test {
namespace {

// base.qcow2 with data.raw, mid.qcow2, top.qcow2; layer.qcow2, active, on top of that.
class Images {
public:
    Images() {
        must("qemu-img create -q -f qcow2 -o data_file=" + (folder / "data.raw") + " " + base + " 512K");
        must("qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 " + mid);
        must("qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 " + top);
        qcow2::make_active(layer, {512 << 10, 16, 12, "top.qcow2"});
    }
    // The chain file of the active layer.
    void index() {
        chain::BuildOptions options;
        options.active = true;
        qcow2::ChainOptions in_use;
        in_use.in_use = true;
        chain::build(qcow2::Chain(layer, in_use), folder / "layer.chain", options);
    }

    Folder folder;
    const std::string base = folder / "base.qcow2", data = folder / "data.raw", mid = folder / "mid.qcow2",
                      top = folder / "top.qcow2", layer = folder / "layer.qcow2", chain = folder / "layer.chain";
};

// Has @path open, and the locks. What is no image for QEMU, as an active layer, it takes for raw if it is told so; then it
// lets others read.
class Qemu : public Process {
public:
    explicit Qemu(const std::string& path, bool image = true, bool reads = false)
        : Process({"qemu-io", "-f", image ? "qcow2" : "raw", "-c", "sleep 600000", reads ? "-r" : "-n", path}) {
        wait_for_lock(image ? 203 : 101);
    }
};

std::string writing(const std::string& path, const Process& p) {
    return path + ": is open for writing in qemu-io (process " + std::to_string(p.pid()) + "): stop it first";
}

}  // namespace

TEST_CASE("locks: an image of the chain that QEMU has open for writing is refused by name") {
    Images i;
    i.index();
    const std::string folder = i.folder.path();
    const auto refuses = [&](const std::string& command, const std::string& line) {
        const Ran r = run("cd " + folder + " && " + dmchain() + " " + command);
        CHECK_MESSAGE(r.status == 1, command << ": " << r.out);
        CHECK_MESSAGE(r.out == "dmchain: " + line + "\n", command);
    };
    for (const std::string& path : {i.base, i.data, i.mid, i.top}) {
        const Qemu qemu(path, path != i.data);
        const std::string line = writing(path, qemu);
        const std::string files = run("ls -lA --time-style=full-iso " + folder).out;
        for (const char* command :
             {"create x top.qcow2 --dry-run", "create x top.qcow2", "create x top.qcow2 --read-only",
              "index top.qcow2 --chain new.chain", "recover layer.qcow2 --chain new.chain",
              "recover layer.qcow2 --chain new.chain --dry-run", "table layer.chain", "activate layer.chain x"})
            refuses(command, line);
        refuses("inspect top.qcow2", line + ", or use \"--force-share\" to look at it all the same");
        // check goes down as far as it can.
        const Ran check = run(dmchain() + " check " + i.top);
        CHECK(check.status == 1);
        CHECK(check.out.find(line + ", or use \"--force-share\" to look at it all the same\n") != std::string::npos);
        CHECK(run("ls -lA --time-style=full-iso " + folder).out == files);
    }
    for (const char* command : {"check top.qcow2", "inspect top.qcow2", "index top.qcow2 --chain new.chain"})
        CHECK(run("cd " + folder + " && " + dmchain() + " " + command).status == 0);
}

TEST_CASE("locks: an active layer that QEMU has open is neither sealed, nor recovered, nor activated") {
    Images i;
    i.index();
    const std::string before = i.folder.read("layer.qcow2");
    {
        const Qemu qemu(i.layer, false);
        for (const std::string& command :
             {"seal " + i.layer, "seal --dry-run " + i.layer, "seal --no-subclusters " + i.layer, "activate " + i.chain + " x",
              "table " + i.chain, "recover --dry-run " + i.layer, "recover " + i.layer}) {
            const Ran r = run(dmchain() + " " + command);
            CHECK_MESSAGE(r.status == 1, command << ": " << r.out);
            CHECK_MESSAGE(r.out == "dmchain: " + writing(i.layer, qemu) + "\n", command);
        }
    }
    CHECK(i.folder.read("layer.qcow2") == before);
    // When it is an image, who reads it keeps it from being changed.
    CHECK(run(dmchain() + " seal " + i.layer).status == 0);
    const Qemu qemu(i.layer, true, true);
    const std::string line = "dmchain: " + i.layer + ": is open in qemu-io (process " + std::to_string(qemu.pid()) +
                             "), which lets nobody write to it: stop it first\n";
    CHECK(run(dmchain() + " seal " + i.layer).out == line);
    CHECK(error_of([&] { qcow2::unseal(i.layer, 16, 12); }) + "\n" == line.substr(9));
}

TEST_CASE("locks: with --force-share what QEMU writes is looked at, with a warning") {
    Images i;
    const Qemu qemu(i.mid);
    const std::string line = i.mid + ": is open for writing in qemu-io (process " + std::to_string(qemu.pid()) +
                             "): what is shown of it may be out of date or wrong";
    for (const std::string command : {"check", "inspect"}) {
        const std::string whole = dmchain() + " " + command + " --force-share " + i.top;
        const Ran text = run(whole);
        CHECK(text.status == 0);
        CHECK(text.out.starts_with("dmchain: warning: " + line + "\n"));
        CHECK(text.out.find("\n", line.size() + 20) != std::string::npos);
        const auto json = nlohmann::json::parse(must(whole + " --json 2>" + (i.folder / "err")));
        CHECK(json["warnings"] == nlohmann::json::array({line}));
    }
    // Nothing to say of others, and of those who read.
    const Qemu reader(i.base, true, true);
    const auto json = nlohmann::json::parse(must(dmchain() + " check --json --force-share " + i.base));
    CHECK(json["warnings"] == nlohmann::json::array());
    CHECK(run(dmchain() + " create x --force-share " + i.top).status == 2);
}

TEST_CASE("locks: while a chain is open QEMU may read every file of it, and write none") {
    Images i;
    const auto opens = [](const std::string& path, const char* how) {
        return run("qemu-io -f raw -c quit " + std::string(how) + path).status == 0;
    };
    {
        const qcow2::Chain chain(i.top, {});
        for (const std::string& path : {i.base, i.data, i.mid, i.top}) {
            CHECK_MESSAGE(!opens(path, ""), path);
            CHECK_MESSAGE(opens(path, "-r "), path);
        }
        CHECK(run("qemu-io -r -f qcow2 -c quit " + i.top).status == 0);
    }
    for (const std::string& path : {i.base, i.data, i.mid, i.top}) CHECK_MESSAGE(opens(path, ""), path);
}

TEST_CASE("locks: while a layer is made, sealed and unsealed QEMU cannot write it") {
    Images i;
    const std::string path = i.folder / "new.qcow2";
    unsigned steps = 0, refused = 0;
    const auto with_qemu = [&](const std::function<void()>& what) {
        steps = refused = 0;
        Writable::watch = [&](Writable::Step, const void*, std::uint64_t, std::uint64_t) {
            if (steps++ % 3 != 0) return;
            const Ran r = run("qemu-io -f raw -c quit " + path);
            refused += r.status != 0 && r.out.find("Failed to get \"write\" lock") != std::string::npos;
        };
        what();
        Writable::watch = nullptr;
        CHECK(steps > 0);
        CHECK(refused == (steps + 2) / 3);
    };
    with_qemu([&] { qcow2::make_active(path, {512 << 10, 16, 12, "top.qcow2"}); });
    ActiveMaker m(i.folder.read("new.qcow2"), 16);
    const std::uint64_t at = m.grow();
    m.records({{0, at, 0x000f}});
    i.folder.write("new.qcow2", m.bytes);
    qcow2::SealOptions fill;
    fill.fill = true;  // reads the layer and those below as a chain while it is written
    with_qemu([&] { qcow2::seal(path, fill); });
    with_qemu([&] { qcow2::unseal(path, 16, 12); });
    CHECK(run("qemu-io -f raw -c quit " + path).status == 0);
}

}  // namespace dmchain::test
