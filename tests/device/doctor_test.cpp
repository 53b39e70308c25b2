// SPDX-License-Identifier: GPL-2.0-or-later
// What doctor finds: of made-up machines, of chains, and of the machine that runs this. Real kernels with and without the
// modules: tests/target/kernel-missing.
#include "device/doctor.hpp"

#include <doctest/doctest.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/process.hpp"
#include "support/folder.hpp"

namespace dmchain::device {
namespace {

using test::Folder;
using test::must;
using test::run;

// A folder that looks like the root of a machine.
class Machine {
public:
    Machine() {
        utsname name{};
        REQUIRE(::uname(&name) == 0);
        modules = std::string("lib/modules/") + name.release + "/modules.dep";
        write("proc/misc", "");
        write("proc/sys/fs/nr_open", "1048576\n");
        write("proc/sys/fs/file-nr", "1000\t0\t9223372036854775807\n");
    }
    void write(const std::string& path, const std::string& text) {
        std::filesystem::create_directories(std::filesystem::path(root / path).parent_path());
        root.write(path, text);
    }
    // Findings on @subject, one a line.
    std::string on(const std::string& subject, const std::vector<std::string>& chains = {}) const {
        std::string out;
        for (const Finding& f : examine(chains, root.path()))
            if (f.subject == subject)
                out += std::string(name_of(f.level)) + " " + f.found + (f.advice.empty() ? "" : ": " + f.advice) + "\n";
        return out;
    }

    Folder root;
    std::string modules;
};

class Variable {
public:
    Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
    ~Variable() { ::unsetenv(name_); }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

private:
    const char* name_;
};

}  // namespace

TEST_CASE("doctor: device-mapper and the module") {
    Machine m;
    const std::string release = std::filesystem::path(m.modules).parent_path().filename().string();
    CHECK(m.on("device-mapper") == "wrong Linux " + release +
                                       " has none, neither built in nor as a module in /lib/modules: start a kernel that has it "
                                       "(CONFIG_BLK_DEV_DM)\n");
    CHECK(m.on("dm-chain") == "wrong there is no such module for Linux " + release +
                                  ": install the package dm-chain-dkms, or run 'make install' and 'depmod'\n");
    m.write(m.modules, "kernel/drivers/md/dm-mod.ko:\nupdates/dkms/dm-chain.ko: kernel/drivers/md/dm-mod.ko\n");
    CHECK(m.on("device-mapper") == "ok a module, which is loaded when it is needed\n");
    CHECK(m.on("dm-chain") == "ok a module, which is loaded when it is needed\n");
    m.write("proc/misc", " 10:236 device-mapper\n");
    CHECK(m.on("device-mapper") == (::geteuid() == 0 ? "ok there\n" : "warning only root can use it: run this as root\n"));
    m.write("dev/mapper/control", "");
    if (::geteuid() == 0)
        CHECK(m.on("device-mapper").starts_with("wrong /dev/mapper/control does not answer (Inappropriate ioctl"));
    CHECK(m.on("kernel").find("Linux " + release) != std::string::npos);
}

TEST_CASE("doctor: Secure Boot") {
    Machine m;
    CHECK(m.on("Secure Boot") == "ok none: the machine was not started by UEFI; modules need no signature\n");
    const std::string variable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    m.write(variable, std::string("\6\0\0\0\0", 5));
    CHECK(m.on("Secure Boot") == "ok off; modules need no signature\n");
    m.write(variable, std::string("\6\0\0\0\1", 5));
    m.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    CHECK(m.on("Secure Boot") ==
          "warning on; modules must be signed, and dm-chain is not loaded: 'modprobe dm-chain' says whether it is signed; DKMS "
          "signs it with a key that the firmware must know: 'mokutil --import /var/lib/dkms/mok.pub', then restart\n");
    m.write("sys/module/dm_chain/refcnt", "0\n");
    CHECK(m.on("Secure Boot") == "ok on; modules must be signed, and dm-chain is loaded\n");
}

TEST_CASE("doctor: udev") {
    Machine m;
    ::unsetenv("DM_DISABLE_UDEV");
    CHECK(m.on("udev") == "ok does not run: dmchain makes the names in /dev/mapper itself\n");
    m.write("run/udev/control", "");
    CHECK(m.on("udev") ==
          "wrong runs without the rules of device-mapper (95-dm-notify.rules): dmchain would wait for ever: install the package "
          "dmsetup\n");
    m.write("usr/lib/udev/rules.d/95-dm-notify.rules", "");
    CHECK(m.on("udev") == "ok runs, with the rules of device-mapper\n");
    const Variable set("DM_DISABLE_UDEV", "1");
    CHECK(m.on("udev") ==
          "warning runs, but DM_DISABLE_UDEV is set: it and dmchain both make names in /dev: unset DM_DISABLE_UDEV\n");
}

TEST_CASE("doctor: the configuration") {
    Machine m;
    {
        const Variable conf("DMCHAIN_CONF", m.root.write("conf", "allow = /usr # there\nallow = none\n"));
        CHECK(m.on("configuration") == "ok " + (m.root / "conf") + ": 2 lines\n");
    }
    {
        const Variable conf("DMCHAIN_CONF", m.root.write("conf", "allow = /usr\nallow = /no/such\nallow = /none/there\n"));
        CHECK(m.on("configuration") == "warning " + (m.root / "conf") +
                                           " allows '/no/such', which is not there: make it, or take the line away\nwarning " +
                                           (m.root / "conf") +
                                           " allows '/none/there', which is not there: make it, or take the line away\n");
    }
    const Variable conf("DMCHAIN_CONF", m.root.write("conf", "allow = /usr\nallow /srv\n"));
    CHECK(m.on("configuration") ==
          "wrong " + (m.root / "conf") +
              ": line 2 is 'allow /srv', expected \"allow = /path\" or \"allow = none\": correct the line\n");
}

TEST_CASE("doctor: chains, their files and their folders") {
    Machine m;
    Folder images;
    const std::string base = images / "base.qcow2", top = images / "top.qcow2";
    must("qemu-img create -q -f qcow2 " + base + " 1M && qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 " + top);
    CHECK(m.on("chain " + top, {top}) == "ok 2 files, all of them there\n");
    CHECK(m.on("room in " + images.path(), {top}).find(" free") != std::string::npos);
    must(test::dmchain() + " index " + top + " --chain " + (images / "x.chain"));
    CHECK(m.on("chain " + (images / "x.chain"), {images / "x.chain"}) == "ok 2 files, all of them there\n");
    {
        const test::Process qemu({"qemu-io", "-f", "qcow2", "-c", "sleep 600000", top});
        qemu.wait_for_lock(203);
        CHECK(m.on("chain " + top, {top}) ==
              "warning " + top + ": is open for writing in qemu-io (process " + std::to_string(qemu.pid()) +
                  "): what is shown of it may be out of date or wrong: stop that before you make a "
                  "device\nok 2 files, all of them there\n");
    }
    std::filesystem::remove(base);
    CHECK(m.on("chain " + top, {top}).starts_with("wrong " + top + ": its backing file cannot be used: " + base + ": "));
    CHECK(m.on("chain " + (images / "x.chain"), {images / "x.chain"}).starts_with("wrong "));
    CHECK(m.on("chain nowhere", {"nowhere"}).starts_with("wrong nowhere: cannot open: No such file or directory: "));
}

TEST_CASE("doctor: the limits of open files") {
    Machine m;
    if (::geteuid() == 0) {
        CHECK(m.on("open files") == "ok up to 1048576 in a process; a chain of 1000 files needs 1256\n");
        m.write("proc/sys/fs/file-nr", "1000\t0\t3000\n");
        CHECK(m.on("open files") ==
              "warning 1000 of at most 3000 in the whole system; a chain of 1000 files needs 2512 more: run 'sysctl "
              "fs.file-max=7024'\n");
    }
    Folder images;
    must("qemu-img create -q -f qcow2 " + (images / "one") + " 1M");
    m.write("proc/sys/fs/file-nr", "1000\t0\t1100\n");
    CHECK(m.on("open files", {images / "one"}) ==
          "wrong 1000 of at most 1100 in the whole system; a chain of 1 files needs 514 more: run 'sysctl fs.file-max=3028'\n");
    // Where the shell allows less than the chain needs, and nobody may raise it.
    const std::string less =
        "ulimit -n 200; setpriv --reuid 65534 --regid 65534 --clear-groups " + test::dmchain() + " doctor --json";
    if (::geteuid() != 0) return;
    const auto json = nlohmann::json::parse(run("bash -c '" + less + "'").out);
    const auto f = std::find_if(json["findings"].begin(), json["findings"].end(),
                                [](const auto& x) { return x["subject"] == "open files"; });
    REQUIRE(f != json["findings"].end());
    CHECK((*f)["level"] == "warning");
    CHECK((*f)["found"] == "at most 200 in a process; a chain of 1000 files needs 1256");
    CHECK((*f)["advice"] == "raise it with 'ulimit -Hn 1256' as root");
}

TEST_CASE("doctor: the command") {
    const auto all = run("cd / && " + test::dmchain() + " doctor");
    const auto json = nlohmann::json::parse(run("cd / && " + test::dmchain() + " doctor --json").out);
    bool wrong = false;
    std::string lines;
    for (const auto& f : json["findings"]) {
        wrong |= f["level"] == "wrong";
        const std::string level = f["level"], found = f["found"], advice = f["advice"], subject = f["subject"];
        CHECK((level == "ok") == advice.empty());
        lines +=
            level + std::string(9 - level.size(), ' ') + subject + ": " + found + (advice.empty() ? "" : ": " + advice) + "\n";
    }
    CHECK(json["sound"] == !wrong);
    CHECK(all.status == wrong);
    for (const char* subject :
         {"kernel", "device-mapper", "dm-chain", "Secure Boot", "udev", "machine id", "configuration", "open files"})
        CHECK_MESSAGE(lines.find(std::string(" ") + subject + ": ") != std::string::npos, subject);
    CHECK(all.out.substr(0, all.out.find("room in")) == lines.substr(0, lines.find("room in")));
}

}  // namespace dmchain::device
