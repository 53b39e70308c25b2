// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain clone: a second device on the layers of a snapshot, which both share.
#include <filesystem>
#include <memory>

#include "chain/points.hpp"
#include "commands/made.hpp"
#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/images.hpp"
#include "device/layer.hpp"
#include "device/make.hpp"
#include "device/merge_note.hpp"
#include "device/start.hpp"
#include "device/turn.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string from;
    std::string name;
    std::string layer;
    std::string chain_file;
    qcow2::ChainOptions chain;
    dm::TableOptions table;
    bool dry_run = false;
    bool json = false;
};

// The image that the clone stands on.
device::ChainImage image_of(const Options& o, const device::At& at, const device::Subject& subject) {
    const std::vector<device::ChainImage> images = device::images_of(subject, subject.open(o.chain));
    const device::ChainImage& image = at.snapshot ? images[device::find_image(images, *at.snapshot)] : images.back();
    if (image.state == device::ChainImage::State::active)
        throw failed("{}: a clone stands on a snapshot: take one, with 'dmchain snapshot {} --wait', and give it as {}@SNAPSHOT",
                     escaped(o.from), escaped(at.what), escaped(at.what));
    if (image.state == device::ChainImage::State::frozen)
        throw failed("{}: is not sealed yet: wait for that, or run 'dmchain seal'", escaped(image.path));
    chain::require_whole(image.label, image.path);
    device::require_settled(image.path);
    return image;
}

void run(const Options& o) {
    dm::check_name(o.name);
    const device::At at = device::split_at(o.from);
    const device::Subject subject = device::subject(at.what, true);
    // What the clone is to stand on must not be merged away meanwhile.
    std::optional<device::ChainTurn> turn;
    if (!o.dry_run) turn.emplace(subject);
    const device::ChainImage image = image_of(o, at, subject);
    if (image.raw)
        throw failed("{}: is a raw image: 'dmchain create' makes a device of a qcow2 image on top of it", escaped(image.path));
    if (image.identity.block_device && (o.layer.empty() || o.chain_file.empty()))
        throw Error(Exit::usage,
                    "clone: the snapshot is a block device: say with --layer and --chain where the clone's own files go");
    device::MakeOptions make;
    make.name = o.name;
    make.image = image.path;
    make.chain = o.chain;
    make.chain.allow.push_back(fs::path(image.path).parent_path().string());
    make.table = o.table;
    make.layer = lasting_name(o.layer.empty() ? (fs::path(image.path).parent_path() / (o.name + ".qcow2")).string() : o.layer);
    make.chain_file = o.chain_file.empty() ? device::default_chain_file(make.layer, o.name) : absolute_name(o.chain_file);
    dm::require_creatable(o.name);
    make.replace = device::check_chain_file_place(make.chain_file);
    device::check_layer_place(make.layer);
    if (!o.dry_run) return say_made(o.name, device::make_device(make), o.json);
    if (o.json)
        print_json(device_facts(o.name, make.chain_file, image.virtual_size, 0, make.layer, true));
    else
        fmt::print("would make the layer {} on {}, and /dev/mapper/{} of it\n", escaped(make.layer), escaped(image.path),
                   escaped(o.name));
}

}  // namespace

CLI::App* add_clone(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("clone", "Make the device NEW on a snapshot, whose layers it shares");
    c->add_option("NAME@SNAPSHOT|TOP", o->from, "A snapshot of a device or chain, or a chain that no device has")->required();
    c->add_option("NEW", o->name, "Name of the new device")->required();
    c->add_option("--layer", o->layer,
                  "Where its writes go: a file to make, or a block device (default: NEW.qcow2 beside the snapshot)")
        ->type_name("PATH");
    c->add_option("--chain", o->chain_file, "Where its chain file goes (default: NEW.chain beside the layer)")->type_name("FILE");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the snapshot's");
    add_table_options(*c, o->table);
    c->add_flag("--dry-run", o->dry_run, "Check all, and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
