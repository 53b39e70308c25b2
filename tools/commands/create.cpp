// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain create: from a qcow2 image to a device in one step.
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "chain/builder.hpp"
#include "commands/layers.hpp"
#include "commands/open_chain.hpp"
#include "commands/print_json.hpp"
#include "dm/device.hpp"
#include "io/text.hpp"
#include "qcow2/active.hpp"
#include "qcow2/unseal.hpp"

#include "dm-chain-log.h"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    ImageOptions image;
    std::string chain_file;
    std::string layer;
    std::optional<std::uint64_t> index_cache;
    bool read_only = false;
    bool in_place = false;
    bool dry_run = false;
    bool json = false;
};

// @layer: the new active layer, or "".
void say_what_would_be_done(const Options& o, const std::string& path, const std::string& layer) {
    const qcow2::Chain chain(o.image.image, o.image.chain);
    std::size_t files = layer.empty() || o.in_place ? 0 : 1;
    for (const auto& l : chain.layers()) files += l->data_file() ? 2 : 1;
    if (o.json) {
        const nlohmann::json out = {{"dry_run", true},
                                    {"device", "/dev/mapper/" + o.name},
                                    {"chain_file", std::filesystem::absolute(path).string()},
                                    {"bytes", chain.virtual_size()},
                                    {"files", files},
                                    {"active", layer.empty() ? nlohmann::json(nullptr) : nlohmann::json(layer)}};
        print_json(out);
    } else {
        if (o.in_place)
            fmt::print("would go on in {}\n", escaped(layer));
        else if (!layer.empty())
            fmt::print("would make the layer {}\n", escaped(layer));
        fmt::print("would build {} from {} files and create /dev/mapper/{} of {} bytes\n", escaped(path), files, escaped(o.name),
                   chain.virtual_size());
    }
}

// Where writes go, absolute.
std::string layer_of(const Options& o) {
    if (o.layer.empty() && File(o.image.image).identity().block_device)
        throw Error(Exit::usage, "create: IMAGE is a block device: name the new layer with --layer");
    const std::string layer = o.layer.empty() ? qcow2::next_layer_name(o.image.image) : o.layer;
    return std::filesystem::absolute(layer).lexically_normal().string();
}

// From a sealed chain to a device with a new active layer on top; what was made before something goes wrong goes.
void create_writable(const Options& o, const std::string& path, const std::string& layer) {
    {
        const qcow2::Chain chain(o.image.image, o.image.chain);
        if (!chain.virtual_size()) throw empty_disk(o.image.image);
        make_layer_on(layer, o.image.image, chain);
    }
    bool built = false;
    try {
        ImageOptions top{layer, o.image.chain};
        top.chain.in_use = true;
        top.chain.beneath.push_back(o.image.image);  // the layer may lie elsewhere
        build_chain_file(top, path, true);
        built = true;
        create_device(o.name, open_for_device(path), o.index_cache, o.json);
    } catch (...) {
        if (!dm::exists(o.name)) {
            if (!std::filesystem::is_block_file(layer)) ::unlink(layer.c_str());
            if (built) ::unlink(path.c_str());
        }
        throw;
    }
}

// Units of a layer on top of @chain, which does not count itself.
std::uint32_t unit_bits(const qcow2::Chain& chain) {
    const auto subblock = std::min<unsigned>(CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(__builtin_ctz(chain.unit())));
    return chain_unit_shift(chain::index_cluster_bits, subblock);
}

// From a chain whose top was sealed here to a device that goes on in it.
void create_in_place(const Options& o, const std::string& path) {
    {
        const qcow2::Chain chain(o.image.image, o.image.chain);
        if (!chain.virtual_size()) throw empty_disk(o.image.image);
        qcow2::require_sealed(o.image.image, chain.top().image()->header(), chain::index_cluster_bits, unit_bits(chain));
        qcow2::unseal(o.image.image, chain::index_cluster_bits, unit_bits(chain));
    }
    try {
        ImageOptions top = o.image;
        top.chain.in_use = true;
        build_chain_file(top, path, true);
        create_device(o.name, open_for_device(path), o.index_cache, o.json);
    } catch (const Error& e) {
        throw Error(e.code(), fmt::format("{}: IMAGE is in use now: 'dmchain seal' makes it what it was", e.what()));
    }
}

void run(const Options& o) {
    if (o.in_place && (o.read_only || !o.layer.empty()))
        throw Error(Exit::usage, "create: --in-place excludes --read-only and --layer");
    if (o.read_only && !o.layer.empty()) throw Error(Exit::usage, "create: --layer and --read-only exclude each other");
    if (!o.read_only && o.image.chain.ignore_corrupt)
        throw Error(
            Exit::usage,
            "create: nothing is written on top of an image that is marked corrupt: give --read-only with --ignore-corrupt");
    if (!o.read_only && o.image.chain.snapshot)
        throw Error(Exit::usage, "create: no layer can stand on an internal snapshot: give --read-only with --snapshot");
    dm::check_name(o.name);
    if (dm::exists(o.name))
        throw failed("{}: there is such a device already: 'dmchain remove' it, or choose another name", escaped(o.name));
    const std::string path = o.chain_file.empty() ? chain_file_beside(o.image.image, o.name) : o.chain_file;
    const std::string layer = o.read_only ? "" : o.in_place ? Place(o.image.image).path() : layer_of(o);
    check_chain_file_place(path);
    if (o.dry_run) {
        if (o.in_place) {
            const qcow2::Chain chain(o.image.image, o.image.chain);
            qcow2::require_sealed(o.image.image, chain.top().image()->header(), chain::index_cluster_bits, unit_bits(chain));
        } else if (!o.read_only) {
            check_layer_place(layer);
        }
        say_what_would_be_done(o, path, layer);
    } else if (o.read_only) {
        build_chain_file(o.image, path);
        create_device(o.name, open_for_device(path), o.index_cache, o.json);
    } else if (o.in_place) {
        create_in_place(o, path);
    } else {
        create_writable(o, path, layer);
    }
}

}  // namespace

void add_create(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("create", "Build the index of IMAGE's chain and make the device NAME of it");
    c->add_option("NAME", o->name, "Name of the device, /dev/mapper/NAME")->required();
    add_image_options(*c, o->image);
    c->add_flag("--read-only", o->read_only, "The device can only be read, and gets no layer of its own");
    c->add_option("--layer", o->layer,
                  "Where writes go: a file to make, or a block device (default: IMAGE's name with the "
                  "next number)")
        ->type_name("PATH");
    c->add_flag("--in-place", o->in_place,
                "Writes go to IMAGE itself, if it was the last layer that dm-chain sealed and nobody wrote to it since");
    c->add_option("--chain", o->chain_file, "Where the chain file goes (default: NAME.chain beside IMAGE)")->type_name("FILE");
    add_cache_option(*c, o->index_cache);
    c->add_flag("--dry-run", o->dry_run, "Check IMAGE's chain and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
