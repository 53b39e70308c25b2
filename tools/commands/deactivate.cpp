// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain deactivate: takes a device away for a while: at shutdown, or to activate it elsewhere.
#include "commands/deactivate.hpp"

#include <memory>

#include "commands/registry.hpp"
#include "device/rebuild.hpp"
#include "dm/users.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

std::vector<std::string> unsealed_of(const device::Live& device) {
    std::vector<std::string> out;
    for (const auto& l : device.layers)
        if (l.state == "frozen" || l.state == "active") out.push_back(device::name_of(l, device.name));
    return out;
}

void deactivate(const std::string& name, const std::vector<std::string>& allow, bool dry_run) {
    const dm::Status status = dm::status(name);
    std::optional<device::Live> lost;  // the chain file of what
    std::vector<std::string> layers;
    // One that was released belongs to another machine, and one that could not be opened again has nothing open.
    if (status.active != "-" && status.mode != "released") {
        const device::Live live = device::look_at(name);
        layers = unsealed_of(live);
        if (!device::has_name(live.chain)) lost = live;
    }
    if (dry_run) {
        dm::require_unused(name);
        fmt::print("would remove /dev/mapper/{} ({})\n", escaped(name), escaped(dm::parameters(name)));
        return;
    }
    dm::remove_unused(name);
    if (!lost) return;
    device::RebuildOptions o;
    o.path = lost->chain.path;
    o.chain.allow = allow;
    device::rebuild(layers.back(), o);
    fmt::print(stderr, "dmchain: {}: was gone, and is rebuilt\n", escaped(o.path));
}

CLI::App* add_deactivate(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        bool dry_run = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("deactivate", "Remove the device NAME; layers and chain file stay for 'dmchain activate'");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--dry-run", o->dry_run, "Say what would be done");
    c->callback([o] { deactivate(o->name, {}, o->dry_run); });
    return c;
}

}  // namespace dmchain::commands
