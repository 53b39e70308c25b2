// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain remove: takes a device away. Of one that could be written a plain qcow2 chain is left.
#include <unistd.h>

#include <memory>

#include "commands/deactivate.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "device/background.hpp"
#include "device/layer.hpp"
#include "dm/users.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    bool fast = false;
    device::SealHow how;
};

void seal_all(const device::Live& device, const std::vector<std::string>& layers, const device::SealHow& how) {
    try {
        for (const std::string& layer : layers) {
            // Frozen layers may have been sealed since; then nothing is left to do.
            if (layer == layers.back() || qcow2::is_in_use(File(layer))) device::seal_layer(layer, how);
        }
        if (device::has_name(device.chain) && ::unlink(device::name_of(device.chain, device.name).c_str()) != 0)
            throw failed("{}: cannot remove the chain file", escaped(device.chain.path));
        fmt::print("{} is the image on top of the chain\n", escaped(layers.back()));
    } catch (const Error& e) {
        throw Error(e.code(), fmt::format("{}: is removed, but not all of its layers are sealed: {}: finish with 'dmchain seal'",
                                          escaped(device.name), e.what()));
    }
}

void run(const Options& o) {
    const dm::Status status = dm::status(o.name);
    // One that was released belongs to another machine.
    const bool seals = status.active != "-" && status.mode != "released" && !o.fast;
    if (!seals) return deactivate(o.name, o.how.allow, o.how.dry_run);
    const device::Live live = device::look_at(o.name);
    const std::vector<std::string> layers = unsealed_of(live);
    if (o.how.dry_run) {
        dm::require_unused(o.name);
        fmt::print("would remove /dev/mapper/{} ({}), seal its layers and remove the chain file\n", escaped(o.name),
                   escaped(dm::parameters(o.name)));
        return;
    }
    const device::SealingTurn turn(o.name);
    dm::remove_unused(o.name);
    seal_all(live, layers, o.how);
}

}  // namespace

CLI::App* add_remove(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("remove", "Remove the device NAME; its layers are sealed, the images stay");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--fast", o->fast, "The same as 'dmchain deactivate'");
    add_seal_options(*c, o->how);
    c->add_flag("--dry-run", o->how.dry_run, "Say what would be done");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
