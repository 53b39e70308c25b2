// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain deactivate: takes a device away for a while: at shutdown, or to activate it elsewhere.
#include "commands/deactivate.hpp"

#include <memory>

#include "commands/registry.hpp"
#include "dm/device.hpp"
#include "dm/users.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

void deactivate(const std::string& name, bool dry_run) {
    if (!dry_run) return dm::remove_unused(name);
    dm::require_unused(name);
    fmt::print("would remove /dev/mapper/{} ({})\n", escaped(name), escaped(dm::parameters(name)));
}

void add_deactivate(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        bool dry_run = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("deactivate", "Remove the device NAME; layers and chain file stay for 'dmchain activate'");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--dry-run", o->dry_run, "Say what would be done");
    c->callback([o] { deactivate(o->name, o->dry_run); });
}

}  // namespace dmchain::commands
