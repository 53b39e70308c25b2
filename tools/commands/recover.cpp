// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain recover: rebuilds the chain file from the layers alone, after a crash or a loss.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/rebuild.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string top;
    device::RebuildOptions how;
    bool json = false;
};

// The layer that a chain file has on top, wherever that is now.
std::string top_of(const chain::ChainFile& file) {
    const chain_layer* l = file.active();
    if (!l) throw failed("{}: has no active layer: rebuild it with 'dmchain index'", escaped(file.file().path()));
    return chain::likely_path(file, *l);
}

void run(const Options& o) {
    std::string named = o.top;
    device::RebuildOptions how = o.how;
    if (chain::is_chain_file(File(named))) {
        if (how.path.empty()) how.path = named;
        named = top_of(chain::ChainFile(File(named)));
    }
    const device::Rebuilt r = device::rebuild(named, how);
    if (o.json) {
        print_json(nlohmann::json{{"chain_file", r.path},
                                  {"active_layer", r.active},
                                  {"frozen_layers", r.passed},
                                  {"bytes", r.bytes},
                                  {"layer_count", r.layers},
                                  {"log_blocks", r.log_blocks},
                                  {"active_clusters", r.active_clusters},
                                  {"dry_run", how.dry_run}});
        return;
    }
    for (std::size_t i = 0; i < r.passed.size(); i++)
        fmt::print("{} was frozen, {} took over\n", escaped(r.passed[i]),
                   escaped(i + 1 < r.passed.size() ? r.passed[i + 1] : r.active));
    fmt::print("{}{}: {}, {}; the active one, {}, has {} in {} of its log\n", how.dry_run ? "would build " : "", escaped(r.path),
               human_size(r.bytes), counted(r.layers, "layer"), escaped(r.active), counted(r.active_clusters, "cluster"),
               counted(r.log_blocks, "block"));
}

}  // namespace

CLI::App* add_recover(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("recover", "Rebuild the chain file of a device that can be written, from its layers alone");
    c->add_option("TOP", o->top, "The layer that was active last, or the chain file, if it still names it")->required();
    c->add_option("--chain", o->how.path, "Where the chain file goes (default: beside TOP, with the name of its device)")
        ->type_name("FILE");
    add_allow_options(*c, o->how.chain.allow, o->how.chain.assume_raw, "TOP's");
    add_take_over_option(*c, o->how.take_over);
    c->add_flag("--dry-run", o->how.dry_run, "Read the layers and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
