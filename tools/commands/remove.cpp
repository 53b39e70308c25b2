// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain remove: takes a device away; its files stay.
#include <memory>

#include "commands/registry.hpp"
#include "dm/device.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

void add_remove(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        bool dry_run = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("remove", "Remove the device NAME; the images and the chain file stay");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--dry-run", o->dry_run, "Say what would be done");
    c->callback([o] {
        const dm::Device device = dm::find(o->name);
        if (device.open_count)
            throw failed("{}: the device is open {} time(s): unmount it or stop who uses it first", escaped(o->name),
                         device.open_count);
        if (o->dry_run)
            fmt::print("would remove /dev/mapper/{} ({})\n", escaped(o->name), escaped(dm::parameters(o->name)));
        else
            dm::remove(o->name);
    });
}

}  // namespace dmchain::commands
