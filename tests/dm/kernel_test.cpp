// SPDX-License-Identifier: GPL-2.0-or-later
// What is said when device-mapper or the target is missing: of made-up kernels, and of folders that look like one; the
// kernels of the test machines are asked in tests/target/kernel-missing.
#include "dm/kernel.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>

#include "support/folder.hpp"

namespace dmchain::dm {
namespace {

Kernel sound() {
    Kernel k;
    k.release = "6.12.0-test";
    k.device_mapper = k.chain = Module::loaded;
    k.root = true;
    return k;
}

std::string text(const std::optional<Lack>& lack) { return lack ? lack->text() : ""; }

}  // namespace

TEST_CASE("kernel: what keeps from using device-mapper is said with what to do") {
    Kernel k = sound();
    CHECK(text(lack_of_device_mapper(k)) == "");
    k.device_mapper = Module::missing;
    k.control_error = ENOENT;
    const std::string none =
        "device-mapper: Linux 6.12.0-test has none, neither built in nor as a module in /lib/modules: start a kernel that has it "
        "(CONFIG_BLK_DEV_DM)";
    CHECK(text(lack_of_device_mapper(k)) == none);
    k.root = false;
    CHECK(text(lack_of_device_mapper(k)) == none);  // becoming root would not help
    k.device_mapper = Module::available;
    CHECK(text(lack_of_device_mapper(k)) == "device-mapper: the kernel has not loaded it: run 'modprobe dm-mod' as root");
    k.device_mapper = Module::loaded;
    for (const int error : {ENOENT, EACCES, EPERM}) {
        k.control_error = error;
        CHECK(text(lack_of_device_mapper(k)) == "device-mapper: only root can use it: run this as root");
    }
    k.root = true;
    k.control_error = ENOENT;
    CHECK(text(lack_of_device_mapper(k)) == "");  // libdevmapper makes the node
    k.control_error = EPERM;
    CHECK(text(lack_of_device_mapper(k)) ==
          "device-mapper: /dev/mapper/control does not answer (Operation not permitted): this process may lack CAP_SYS_ADMIN, or "
          "its "
          "container the device: run this on the host itself");
}

TEST_CASE("kernel: what keeps from having the target is said with what to do") {
    Kernel k = sound();
    CHECK(text(lack_of_target(k, Version{1, 7, 3})) == "");
    CHECK(text(lack_of_target(k, Version{2, 0, 0})) ==
          "dm-chain: the module has version 2.0.0, this dmchain needs 1.x: install both of one release");
    k.chain = Module::missing;
    CHECK(text(lack_of_target(k, std::nullopt)) ==
          "dm-chain: there is no such module for Linux 6.12.0-test: install the package dm-chain-dkms, or run 'make install' and "
          "'depmod'");
    k.chain = Module::available;
    CHECK(text(lack_of_target(k, std::nullopt)) == "dm-chain: the kernel does not load the module: 'modprobe dm-chain' says why");
    k.signed_only = true;
    CHECK(text(lack_of_target(k, std::nullopt)) ==
          "dm-chain: the kernel does not load the module, of which it wants a signature: 'modprobe dm-chain' says why");
}

TEST_CASE("kernel: what is there is seen without loading anything") {
    test::Folder root;
    utsname name{};
    REQUIRE(::uname(&name) == 0);
    const std::string modules = std::string("lib/modules/") + name.release;
    for (const std::string& folder : {std::string("proc"), std::string("sys/module/module/parameters"),
                                      std::string("sys/kernel/security"), std::string("dev/mapper"), modules})
        std::filesystem::create_directories(root / folder);

    Kernel k = look_at_kernel(root.path());
    CHECK(k.release == name.release);
    CHECK(k.device_mapper == Module::missing);
    CHECK(k.chain == Module::missing);
    CHECK(k.control_error == ENOENT);
    CHECK_FALSE(k.signed_only);
    CHECK(k.root == (::geteuid() == 0));

    root.write(modules + "/modules.dep", "kernel/drivers/md/dm-mod.ko.xz:\nkernel/drivers/md/dm-chain-other.ko:\n");
    // Opening this would wait for ever.
    REQUIRE(::mkfifo((root / "dev/mapper/control").c_str(), 0600) == 0);
    k = look_at_kernel(root.path());
    CHECK(k.device_mapper == Module::available);
    CHECK(k.chain == Module::missing);
    CHECK(k.control_error == 0);

    root.write(modules + "/modules.dep", "kernel/drivers/md/dm-mod.ko:\nupdates/dkms/dm-chain.ko: kernel/drivers/md/dm-mod.ko\n");
    root.write("proc/misc", " 10:236 device-mapper\n");
    std::filesystem::remove(root / "dev/mapper/control");
    k = look_at_kernel(root.path());
    CHECK(k.device_mapper == Module::loaded);
    CHECK(k.chain == Module::available);
    CHECK(k.control_error == ENOENT);
    root.write("dev/mapper/control", "");  // something else
    CHECK(look_at_kernel(root.path()).control_error == ENOTTY);
    std::filesystem::create_directories(root / "sys/module/dm_chain");
    CHECK(look_at_kernel(root.path()).chain == Module::loaded);

    root.write("sys/module/module/parameters/sig_enforce", "N\n");
    root.write("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
    CHECK_FALSE(look_at_kernel(root.path()).signed_only);
    root.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    CHECK(look_at_kernel(root.path()).signed_only);
    root.write("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
    root.write("sys/module/module/parameters/sig_enforce", "Y\n");
    CHECK(look_at_kernel(root.path()).signed_only);
}

}  // namespace dmchain::dm
