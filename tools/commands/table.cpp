// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain table: the table line for "dmsetup create".
#include <memory>

#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string chain_file;
    device::StartOptions start;
    dm::TableOptions table;
};

void run(const Options& o) {
    if (const File file(o.chain_file); !chain::is_chain_file(file) && qcow2::has_magic(file))
        throw failed("{}: is an image: build its chain file with 'dmchain index'", escaped(o.chain_file));
    const chain::ChainFile file = device::open_for_device(o.chain_file, o.start);
    fmt::print("0 {} chain {}\n", file.sectors(), dm::table_parameters(file.file().name(), o.table));
}

}  // namespace

CLI::App* add_table(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("table",
                                     "Print the table line of a chain file, for 'dmsetup create' (--readonly without "
                                     "an active layer)");
    c->add_option("CHAIN", o->chain_file, "The chain file")->required();
    add_which_option(*c, o->start.which);
    add_table_options(*c, o->table);
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
