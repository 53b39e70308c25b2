// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain create: from a qcow2 image to a device in one step.
#include <memory>

#include "commands/open_chain.hpp"
#include "dm/device.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    ImageOptions image;
    std::string chain_file;
    std::optional<std::uint64_t> index_cache;
    bool read_only = false;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o) {
    if (!o.read_only)
        throw Error(Exit::usage, "create: a device without an active layer can only be read: give --read-only");
    dm::check_name(o.name);
    if (dm::exists(o.name))
        throw failed("{}: there is such a device already: 'dmchain remove' it, or choose another name", o.name);
    const std::string path = o.chain_file.empty() ? chain_file_beside(o.image.image, o.name) : o.chain_file;
    if (o.dry_run) {
        const qcow2::Chain chain(o.image.image, o.image.chain);
        fmt::print("would build {} from {} layers and create /dev/mapper/{} of {} bytes\n", path,
                   chain.layers().size(), o.name, chain.virtual_size());
        return;
    }
    build_chain_file(o.image, path);
    create_device(o.name, open_for_device(path), o.index_cache, o.json);
}

}  // namespace

void add_create(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("create", "Build the index of IMAGE's chain and make the device NAME of it");
    c->add_option("NAME", o->name, "Name of the device, /dev/mapper/NAME")->required();
    add_image_options(*c, o->image);
    c->add_flag("--read-only", o->read_only, "The device can only be read");
    c->add_option("--chain", o->chain_file, "Where the chain file goes (default: NAME.chain beside IMAGE)")
        ->type_name("FILE");
    add_cache_option(*c, o->index_cache);
    c->add_flag("--dry-run", o->dry_run, "Check IMAGE's chain and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
