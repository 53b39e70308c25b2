// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain index: the chain file of an image's chain, for a device that is only read.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    ImageOptions image;
    std::string chain_file;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o) {
    const qcow2::Chain chain(o.image.image, o.image.chain);
    if (!chain.virtual_size()) throw device::empty_disk(o.image.image);
    const std::string path = o.chain_file.empty() ? device::default_chain_file(o.image.image, device::default_name(o.image.image))
                                                  : absolute_name(o.chain_file);
    const bool replace = device::check_chain_file_place(path);
    if (!o.dry_run) device::build_chain_file(chain, path, false, replace);
    if (o.json)
        print_json(nlohmann::json{{"chain_file", path},
                                  {"bytes", chain.virtual_size()},
                                  {"layer_count", chain.layers().size()},
                                  {"dry_run", o.dry_run}});
    else
        fmt::print("{}{}: {}, {}\n", o.dry_run ? "would build " : "", escaped(path), human_size(chain.virtual_size()),
                   counted(chain.layers().size(), "layer"));
}

}  // namespace

CLI::App* add_index(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("index", "Build the chain file of IMAGE's chain, for a device that can only be read");
    add_image_options(*c, o->image);
    c->add_option("--chain", o->chain_file, "Where the chain file goes (default: beside IMAGE, with .chain for its ending)")
        ->type_name("FILE");
    c->add_flag_callback(
        "--alone", [o] { o->image.chain.depth = 1; },
        "Leave out what IMAGE stands on: for a merged image that takes the place of others, see \"replace\" in docs/target.md");
    c->add_flag("--dry-run", o->dry_run, "Check IMAGE's chain and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
