// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain release: hands a chain to another machine that reaches the same storage, as a migration does.
#include <memory>

#include "commands/registry.hpp"
#include "device/live.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

void run(const std::string& name, bool dry_run) {
    const device::Live device = device::look_at_writable(name);
    if (dry_run) {
        fmt::print("would suspend /dev/mapper/{} and release {}\n", escaped(name), escaped(device.active()->path));
        return;
    }
    const bool was_suspended = dm::find(name).suspended;
    if (!was_suspended) dm::suspend(name);
    try {
        dm::message(name, "release");
    } catch (...) {
        if (!was_suspended) dm::resume(name);
        throw;
    }
    fmt::print("/dev/mapper/{} is suspended, and {} is released: another machine may activate {}\n", escaped(name),
               escaped(device.active()->path), escaped(device.chain.path));
}

}  // namespace

CLI::App* add_release(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        bool dry_run = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("release", "Suspend the device NAME and let another machine have its chain");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--dry-run", o->dry_run, "Say what would be done");
    c->callback([o] { run(o->name, o->dry_run); });
    return c;
}

}  // namespace dmchain::commands
