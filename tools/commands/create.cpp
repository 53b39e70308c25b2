// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain create: from a qcow2 image to a device in one step.
#include <filesystem>
#include <memory>

#include "chain/disk.hpp"
#include "commands/made.hpp"
#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/layer.hpp"
#include "device/make.hpp"
#include "io/lasting.hpp"
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
    dm::TableOptions table;
    bool read_only = false;
    bool in_place = false;
    bool dry_run = false;
    bool json = false;
};

// @layer: the new active layer, or "".
void say_what_would_be_done(const Options& o, const qcow2::Chain& chain, const std::string& path, const std::string& layer) {
    std::size_t files = layer.empty() || o.in_place ? 0 : 1;
    for (const auto& l : chain.layers()) files += l->data_file() ? 2 : 1;
    if (o.json) {
        print_json(device_facts(o.name, path, chain.virtual_size(), files, layer, true));
    } else {
        if (o.in_place)
            fmt::print("would go on in {}\n", escaped(layer));
        else if (!layer.empty())
            fmt::print("would make the layer {}\n", escaped(layer));
        fmt::print("would build {} from {} and create /dev/mapper/{} of {} bytes\n", escaped(path), counted(files, "file"),
                   escaped(o.name), chain.virtual_size());
    }
}

// Where writes go, absolute.
std::string layer_of(const Options& o) {
    if (o.layer.empty() && File(o.image.image).identity().block_device)
        throw Error(Exit::usage, "create: IMAGE is a block device: name the new layer with --layer");
    const std::string layer = o.layer.empty() ? qcow2::next_layer_name(o.image.image) : o.layer;
    return lasting_name(layer);
}

chain::ChainFile start(const Options& o, const std::string& path) {
    chain::ChainFile file = device::open_for_device(path);
    device::start(o.name, file, o.table);
    return file;
}

// Units of a layer on top of @chain, which does not count itself.
std::uint32_t unit_bits(const qcow2::Chain& chain) {
    const chain::Geometry g = chain::geometry_at(chain, chain.layers().size() - 1);
    return chain_unit_shift(g.cluster_shift, g.subblock_shift);
}

// From a chain whose top was sealed here, which is closed, to a device that goes on in it.
void create_in_place(const Options& o, const std::string& path, bool replace, std::uint32_t units) {
    qcow2::unseal(o.image.image, chain::index_cluster_bits, units);
    try {
        qcow2::ChainOptions top = o.image.chain;
        top.in_use = true;
        device::build_chain_file(qcow2::Chain(o.image.image, top), path, true, replace);
        say_made(o.name, start(o, path), o.json);
    } catch (const Error& e) {
        throw Error(e.code(), fmt::format("{}: IMAGE is in use now: 'dmchain seal' makes it what it was", e.what()));
    }
}

// A device that reads the image would see what is written to it.
void require_unused(const std::string& image) {
    if (const auto use = device::user_of(identity_of(image)))
        throw failed("{}: is a layer of the device {}: remove that first", escaped(image), escaped(use->device.name));
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
    const std::string path =
        o.chain_file.empty() ? device::default_chain_file(o.image.image, o.name) : absolute_name(o.chain_file);
    const std::string layer = o.read_only ? "" : o.in_place ? absolute_name(o.image.image) : layer_of(o);
    // The images first: what is wrong with them is said whether or not there can be a device.
    std::optional<qcow2::Chain> chain(std::in_place, o.image.image, o.image.chain);
    if (!chain->virtual_size()) throw device::empty_disk(o.image.image);
    const std::uint32_t units = unit_bits(*chain);
    if (o.in_place) qcow2::require_sealed(o.image.image, chain->top().image()->header(), chain::index_cluster_bits, units);
    dm::require_creatable(o.name);
    const bool replace = device::check_chain_file_place(path);
    if (o.in_place) require_unused(o.image.image);
    if (!o.read_only && !o.in_place) device::check_layer_place(layer);
    if (o.dry_run) {
        say_what_would_be_done(o, *chain, path, layer);
    } else if (o.read_only) {
        device::build_chain_file(*chain, path, false, replace);
        say_made(o.name, start(o, path), o.json);
    } else {
        // It is locked as long as it is open, and its files count.
        chain.reset();
        if (o.in_place)
            create_in_place(o, path, replace, units);
        else
            say_made(o.name, device::make_device({o.name, o.image.image, layer, path, replace, o.image.chain, o.table}), o.json);
    }
}

}  // namespace

CLI::App* add_create(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("create", "Build the index of IMAGE's chain and make the device NAME from it");
    c->add_option("NAME", o->name, "Name of the device, /dev/mapper/NAME")->required();
    add_image_options(*c, o->image);
    c->add_flag("--read-only", o->read_only, "The device can only be read, and gets no layer of its own");
    c->add_option("--layer", o->layer,
                  "Where writes go: a file to make, or a block device (default: IMAGE's name with the "
                  "next number)")
        ->type_name("PATH");
    c->add_flag("--in-place", o->in_place, "Writes go to IMAGE itself, if dmchain sealed it and nobody has written to it since");
    c->add_option("--chain", o->chain_file, "Where the chain file goes (default: NAME.chain beside IMAGE)")->type_name("FILE");
    add_table_options(*c, o->table);
    c->add_flag("--dry-run", o->dry_run, "Check IMAGE's chain and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
