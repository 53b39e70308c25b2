// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain remove: takes a device away. Of one that could be written a plain qcow2 chain is left.
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "device/layer.hpp"
#include "device/rebuild.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    bool fast = false;
    device::SealHow how;
};

// The layers that are not sealed, base first, by the names they have now. Throws failed() if one was removed: the device
// alone has what is in it.
std::vector<std::string> unsealed_of(const device::Live& device) {
    std::vector<std::string> out;
    for (const auto& l : device.layers)
        if (l.state == "frozen" || l.state == "active") out.push_back(device::name_of(l, device.name));
    return out;
}

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

// Somebody took the chain file away while the device was in use.
void put_chain_file_back(const device::Live& device, const std::string& top, const std::vector<std::string>& allow) {
    device::RebuildOptions o;
    o.path = device.chain.path;
    o.chain.allow = allow;
    device::rebuild(top, o);
    fmt::print(stderr, "dmchain: {}: was gone, and is rebuilt\n", escaped(device.chain.path));
}

void run(const Options& o) {
    const dm::Device found = dm::find(o.name);
    if (found.open_count)
        throw failed("{}: the device is open {} time(s): unmount it or stop who uses it first", escaped(o.name), found.open_count);
    const dm::Status status = dm::status(o.name);
    // One that was released belongs to another machine.
    const bool written = status.active != "-" && status.mode != "released";
    const bool seals = written && !o.fast;
    device::Live device;
    std::vector<std::string> layers;
    if (written) {
        device = device::look_at(o.name);
        layers = unsealed_of(device);
    }
    if (o.how.dry_run) {
        fmt::print("would remove /dev/mapper/{} ({}){}\n", escaped(o.name), escaped(dm::parameters(o.name)),
                   seals ? ", seal its layers and remove the chain file" : "");
        return;
    }
    dm::remove(o.name);
    if (seals)
        seal_all(device, layers, o.how);
    else if (written && !device::has_name(device.chain))
        put_chain_file_back(device, layers.back(), o.how.allow);
}

}  // namespace

CLI::App* add_remove(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("remove", "Remove the device NAME; its layers are sealed, the images stay");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--fast", o->fast, "Leave the layers unsealed and the chain file for 'dmchain activate'");
    add_seal_options(*c, o->how);
    c->add_flag("--dry-run", o->how.dry_run, "Say what would be done");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
