// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain recover: the chain file anew from the layers alone, after a crash or a loss.
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "chain/recover.hpp"
#include "commands/layers.hpp"
#include "commands/open_chain.hpp"
#include "commands/print_json.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string top;
    std::string chain_file;
    qcow2::ChainOptions chain;
    bool dry_run = false;
    bool json = false;
};

// The layer that a chain file has on top.
std::string top_of(const chain::ChainFile& file) {
    if (const chain_layer* l = file.active()) return file.path(*l);
    throw failed("{}: has no active layer: build it anew with 'dmchain create' or 'dmchain table'", escaped(file.file().path()));
}

void run(const Options& o) {
    std::string named = o.top, path = o.chain_file;
    if (chain::is_chain_file(File(named))) {
        if (path.empty()) path = named;
        named = top_of(chain::ChainFile(File(named)));
    }
    const chain::Top top = chain::find_top(named, o.chain);
    if (const auto device = device_of_frozen(top.path))
        throw failed("{}: is a layer of the device {}: remove that first", escaped(top.path), escaped(device->first.name));
    if (path.empty()) path = chain_file_beside(top.path, std::filesystem::path(Place(top.path).path()).filename().string());

    ImageOptions image{top.path, o.chain};
    image.chain.in_use = true;
    const qcow2::Chain chain(image.image, image.chain);
    chain::require_closed_logs(chain);
    const qcow2::Log& log = *chain.top().image()->log();
    check_chain_file_place(path, true);
    if (!o.dry_run) build_chain_file(image, path, true);
    if (o.json) {
        const nlohmann::json out = {{"chain_file", std::filesystem::absolute(path).lexically_normal().string()},
                                    {"active", chain.top().file().path()},
                                    {"took_over", top.passed},
                                    {"bytes", chain.virtual_size()},
                                    {"layers", chain.layers().size()},
                                    {"log_blocks", log.position().sequence - 1},
                                    {"clusters_active", log.clusters().size()},
                                    {"dry_run", o.dry_run}};
        print_json(out);
        return;
    }
    for (std::size_t i = 0; i < top.passed.size(); i++)
        fmt::print("{} was frozen, {} took over\n", escaped(top.passed[i]),
                   escaped(i + 1 < top.passed.size() ? top.passed[i + 1] : top.path));
    fmt::print("{}{}: {}, {} layers; the active one, {}, has {} clusters in {} blocks of its log\n",
               o.dry_run ? "would build " : "", escaped(path), human_size(chain.virtual_size()), chain.layers().size(),
               escaped(chain.top().file().path()), log.clusters().size(), log.position().sequence - 1);
}

}  // namespace

void add_recover(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c =
        app.add_subcommand("recover", "Build the chain file of a device that can be written anew, from its layers alone");
    c->add_option("TOP", o->top, "The layer that was active last, or the chain file, if it still names it")->required();
    c->add_option("--chain", o->chain_file, "Where the chain file goes (default: TOP.chain beside TOP)")->type_name("FILE");
    c->add_option("--allow", o->chain.allow, "Folder (or file) outside TOP's own folder that images may name; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    c->add_flag("--assume-raw", o->chain.assume_raw, "Take a backing file without a declared format for raw if it is not qcow2");
    c->add_flag("--dry-run", o->dry_run, "Read the layers and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
