// SPDX-License-Identifier: GPL-2.0-or-later
// See kernel.hpp.
#include "dm/kernel.hpp"

#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::dm {
namespace {

constexpr const char* control = "/dev/mapper/control";

bool any_line(const std::string& path, const char* text) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        if (line.find(text) != std::string::npos) return true;
    return false;
}

// Asks for the version, as libdevmapper does first. Returns an errno, or 0.
int ask(const std::string& path, std::optional<Version>& version) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    dm_ioctl request{};
    request.version[0] = DM_VERSION_MAJOR;
    request.data_size = sizeof request;
    const int error = ::ioctl(fd, DM_VERSION, &request) == 0 ? 0 : errno;
    ::close(fd);
    if (!error) version = {request.version[0], request.version[1], request.version[2]};
    return error;
}

}  // namespace

std::string to_string(const Version& v) { return fmt::format("{}.{}.{}", v[0], v[1], v[2]); }

Kernel look_at_kernel(const std::string& root) {
    Kernel k;
    utsname name{};
    if (::uname(&name) == 0) k.release = name.release;
    const std::string modules = root + "/lib/modules/" + k.release;
    const auto module = [&](bool loaded, const char* file) {
        return loaded ? Module::loaded : any_line(modules + "/modules.dep", file) ? Module::available : Module::missing;
    };
    std::error_code none;
    k.device_mapper = module(any_line(root + "/proc/misc", "device-mapper"), "/dm-mod.ko");
    k.chain = module(std::filesystem::exists(root + "/sys/module/dm_chain", none), "/dm-chain.ko");
    k.root = ::geteuid() == 0;
    k.signed_only = any_line(root + "/sys/module/module/parameters/sig_enforce", "Y") ||
                    any_line(root + "/sys/kernel/security/lockdown", "[integrity]") ||
                    any_line(root + "/sys/kernel/security/lockdown", "[confidentiality]");
    // Opening it would load the module.
    if (k.device_mapper == Module::loaded)
        k.control_error = ask(root + control, k.version);
    else if (::access((root + control).c_str(), R_OK | W_OK) != 0)
        k.control_error = errno;
    return k;
}

std::optional<Lack> lack_of_device_mapper(const Kernel& k) {
    const auto lack = [](const std::string& found, const char* advice) { return Lack{"device-mapper", found, advice}; };
    if (k.device_mapper == Module::missing)
        return lack(fmt::format("Linux {} has none, neither built in nor as a module in /lib/modules", escaped(k.release)),
                    "start a kernel that has it (CONFIG_BLK_DEV_DM)");
    if (k.device_mapper == Module::available) return lack("the kernel has not loaded it", "run 'modprobe dm-mod' as root");
    if (k.control_error == 0) return std::nullopt;
    if (!k.root) return lack("only root can use it", "run this as root");
    if (k.control_error == ENOENT) return std::nullopt;  // libdevmapper makes the node
    return lack(fmt::format("{} does not answer ({}): this process may lack CAP_SYS_ADMIN, or its container the device", control,
                            std::strerror(k.control_error)),
                "run this on the host itself");
}

std::optional<Lack> lack_of_target(const Kernel& k, const std::optional<Version>& target) {
    const auto lack = [](const std::string& found, const std::string& advice) { return Lack{"dm-chain", found, advice}; };
    if (target && (*target)[0] == target_major) return std::nullopt;
    if (target)
        return lack(fmt::format("the module has version {}, this dmchain needs {}.x", to_string(*target), target_major),
                    "install both of one release");
    if (k.chain == Module::missing)
        return lack(fmt::format("there is no such module for Linux {}", escaped(k.release)),
                    "install the package dm-chain-dkms, or run 'make install' and 'depmod'");
    return lack(k.signed_only ? "the kernel does not load the module, of which it wants a signature"
                              : "the kernel does not load the module",
                "'modprobe dm-chain' says why");
}

void require_device_mapper() {
    std::array<char, 64> version{};
    if (dm_driver_version(version.data(), version.size())) return;
    if (const auto lack = lack_of_device_mapper(look_at_kernel())) throw failed("{}", lack->text());
}

}  // namespace dmchain::dm
