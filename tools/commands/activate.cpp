// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain activate: a device from a chain file that is there already.
#include <memory>

#include "commands/made.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string chain_file;
    std::string name;
    device::StartOptions start;
    dm::TableOptions table;
    bool json = false;
};

void run(const Options& o) {
    const std::string name = o.name.empty() ? device::default_name(o.chain_file) : o.name;
    dm::check_name(name);
    // What is wrong with the chain is said whether or not there can be a device.
    const chain::ChainFile file = device::open_for_device(o.chain_file, o.start);
    dm::require_creatable(name);
    device::start(name, file, o.table);
    say_made(name, file, o.json);
}

}  // namespace

CLI::App* add_activate(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("activate", "Make a device from a chain file, if its layers are still what they were");
    c->add_option("CHAIN", o->chain_file, "The chain file")->required();
    c->add_option("NAME", o->name, "Name of the device (default: CHAIN's name without .chain)");
    add_which_option(*c, o->start.which);
    add_take_over_option(*c, o->start.take_over);
    add_table_options(*c, o->table);
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
