// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain remove: takes a device away. Of one that could be written a plain qcow2 chain is left.
#include <unistd.h>

#include <memory>

#include "commands/deactivate.hpp"
#include "commands/layers.hpp"
#include "dm/users.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    bool fast = false;
    SealHow how;
};

void run(const Options& o) {
    if (o.fast) return deactivate(o.name, o.how.dry_run);
    const bool seals = dm::status(o.name).active != "-";
    const std::string path = dm::chain_file(o.name);
    if (o.how.dry_run) {
        dm::require_unused(o.name);
        fmt::print("would remove /dev/mapper/{} ({}){}\n", escaped(o.name), escaped(dm::parameters(o.name)),
                   seals ? ", seal its layers and remove the chain file" : "");
        return;
    }
    dm::remove_unused(o.name);
    if (!seals) return;
    try {
        const chain::ChainFile file{File(path)};
        // What the layers' logs say counts, if the chain file could not be written any more.
        const std::vector<std::string> layers = unsealed_of(file, o.how.allow);
        for (const std::string& layer : layers) seal_layer(layer, o.how);
        if (::unlink(path.c_str()) != 0) throw failed("{}: cannot remove the chain file", escaped(path));
        if (!layers.empty()) fmt::print("{} is the image on top of the chain\n", escaped(layers.back()));
    } catch (const Error& e) {
        throw Error(e.code(), fmt::format("{}: is removed, but not all of its layers are sealed: {}: finish with 'dmchain seal'",
                                          escaped(o.name), e.what()));
    }
}

}  // namespace

void add_remove(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("remove", "Remove the device NAME; its layers are sealed, the images stay");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--fast", o->fast, "The same as 'dmchain deactivate'");
    add_seal_options(*c, o->how);
    c->add_flag("--dry-run", o->how.dry_run, "Say what would be done");
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
