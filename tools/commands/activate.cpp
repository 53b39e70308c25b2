// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain activate: a device from a chain file that is there already.
#include <filesystem>
#include <memory>

#include "commands/open_chain.hpp"
#include "dm/device.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string chain_file;
    std::string name;
    std::optional<std::uint64_t> index_cache;
    bool json = false;
};

void run(const Options& o) {
    const std::string name = o.name.empty() ? std::filesystem::path(o.chain_file).stem().string() : o.name;
    dm::check_name(name);
    const chain::ChainFile file = open_for_device(o.chain_file);
    dm::require_creatable(name);
    create_device(name, file, o.index_cache, o.json);
}

}  // namespace

void add_activate(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("activate", "Make a device of a chain file, if its layers are still what they were");
    c->add_option("CHAIN", o->chain_file, "The chain file")->required();
    c->add_option("NAME", o->name, "Name of the device (default: CHAIN's name without .chain)");
    add_cache_option(*c, o->index_cache);
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
