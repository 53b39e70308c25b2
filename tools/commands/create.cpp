// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain create: from a qcow2 image to a device in one step.
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/open_chain.hpp"
#include "commands/print_json.hpp"
#include "dm/device.hpp"
#include "io/text.hpp"

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

void say_what_would_be_done(const Options& o, const std::string& path) {
    const qcow2::Chain chain(o.image.image, o.image.chain);
    std::size_t files = 0;
    for (const auto& layer : chain.layers()) files += layer->data_file() ? 2 : 1;
    if (o.json) {
        const nlohmann::json out = {{"dry_run", true},
                                    {"device", "/dev/mapper/" + o.name},
                                    {"chain_file", std::filesystem::absolute(path).string()},
                                    {"bytes", chain.virtual_size()},
                                    {"files", files}};
        print_json(out);
    } else {
        fmt::print("would build {} from {} files and create /dev/mapper/{} of {} bytes\n", escaped(path), files,
                   escaped(o.name), chain.virtual_size());
    }
}

void run(const Options& o) {
    if (!o.read_only)
        throw Error(Exit::usage, "create: a device without an active layer can only be read: give --read-only");
    dm::check_name(o.name);
    if (dm::exists(o.name))
        throw failed("{}: there is such a device already: 'dmchain remove' it, or choose another name", escaped(o.name));
    const std::string path = o.chain_file.empty() ? chain_file_beside(o.image.image, o.name) : o.chain_file;
    if (o.dry_run) {
        check_chain_file_place(path);
        say_what_would_be_done(o, path);
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
