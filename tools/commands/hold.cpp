// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain hold: QEMU's locks of a device's layers, held as long as the device is there. Stays in the foreground, for systemd.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "commands/registry.hpp"
#include "device/keeper.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

// As sd_notify(3), whose library would be needed for this alone.
void tell_systemd(const char* state) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    if (!path || std::strlen(path) >= sizeof to.sun_path) return;
    std::strcpy(to.sun_path, path);
    if (*path == '@') to.sun_path[0] = 0;
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    ::sendto(fd, state, std::strlen(state), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), bytes);
    ::close(fd);
}

void run(const std::string& name) {
    // They come as answers of sigtimedwait().
    sigset_t ends;
    ::sigemptyset(&ends);
    for (const int s : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ends, s);
    ::sigprocmask(SIG_BLOCK, &ends, nullptr);

    device::Keeper keeper(name);
    fmt::print("/dev/mapper/{}: holding the locks of {} layer{}\n", escaped(name), keeper.layers(),
               keeper.layers() == 1 ? "" : "s");
    std::fflush(stdout);
    tell_systemd("READY=1");
    const timespec second = {1, 0};
    do {
        if (::sigtimedwait(&ends, nullptr, &second) > 0) return;
    } while (keeper.follow());
}

}  // namespace

CLI::App* add_hold(CLI::App& app, Exit&) {
    auto name = std::make_shared<std::string>();
    CLI::App* c =
        app.add_subcommand("hold", "Keep QEMU away from the layers of the device NAME by its own locks, until it is gone");
    c->add_option("NAME", *name, "Name of the device")->required();
    c->callback([name] { run(*name); });
    return c;
}

}  // namespace dmchain::commands
