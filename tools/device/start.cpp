// SPDX-License-Identifier: GPL-2.0-or-later
// See start.hpp.
#include "device/start.hpp"

#include <filesystem>

#include "chain/builder.hpp"
#include "chain/owner.hpp"
#include "device/live.hpp"
#include "device/turn.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

std::string default_chain_file(const std::string& image, const std::string& name) {
    return (fs::path(absolute_name(image)).parent_path() / (name + ".chain")).string();
}

std::string default_name(const std::string& path) { return fs::path(path).stem().string(); }

Error empty_disk(const std::string& path) {
    return failed("{}: the virtual disk has 0 bytes: there is nothing to make a device of", escaped(path));
}

namespace {

// The active layer that the chain file @path names, if it is still in use; "" also if the file cannot be read.
std::string active_layer_of(const std::string& path) {
    try {
        const chain::ChainFile file{File(path)};
        if (!file.active()) return "";
        const std::string layer = file.path(*file.active());
        return qcow2::is_in_use(File(layer)) ? layer : "";
    } catch (const Error&) {
        return "";
    }
}

// A device that has the chain file open would go on in it, unseen.
void require_unused(const std::string& path, const char* or_else = "") {
    const auto use = user_of(identity_of(path));
    if (use && use->device.active())
        throw failed("{}: is the {} of the device {}: remove that first{}", escaped(path),
                     use->layer.id ? use->layer.state + " layer" : "chain file", escaped(use->device.name), or_else);
}

}  // namespace

bool check_chain_file_place(const std::string& path, bool recovered) {
    std::error_code none;
    if (!fs::exists(path, none)) return false;
    if (!fs::is_regular_file(path, none) || !chain::is_chain_file(File(path)))
        throw failed("{}: exists and is not a chain file: move it away, or name another place with --chain", escaped(path));
    require_unused(path, ", or name another place with --chain");
    if (recovered) return true;
    if (const std::string layer = active_layer_of(path); !layer.empty())
        throw failed(
            "{}: has the active layer {}, which is not sealed: 'dmchain activate' it or 'dmchain seal' the layer first, "
            "or name another place with --chain",
            escaped(path), escaped(layer));
    return true;
}

void build_chain_file(const qcow2::Chain& chain, const std::string& path, bool active, bool replace,
                      const std::vector<std::string>& growing) {
    chain::BuildOptions build;
    build.growing = growing;
    build.active = active;
    build.replace = replace;
    std::optional<Progress> progress;
    build.progress = [&](std::uint64_t done, std::uint64_t all) {
        if (!progress) progress.emplace("index", all);
        progress->reach(done);
    };
    chain::build(chain, path, build);
}

namespace {

// By QEMU's locks, which are only looked at: the target, which opens the layers next, has none.
void require_nobody_writes(const chain::ChainFile& file, const chain::Places& places) {
    for (std::size_t i = 0; i < places.paths.size(); i++) {
        const File layer(places.paths[i]);
        require_image_lock(layer.fd(), layer.path(), &file.layers()[i] == file.active() ? ImageUse::write : ImageUse::read);
    }
}

// Data files stand behind their images.
const std::string& image_on_top(const chain::ChainFile& file, const chain::Places& places) {
    std::size_t i = file.layers().size() - 1;
    while (i > 0 && le16toh(file.layers()[i].owner) != CHAIN_NO_LAYER) i--;
    return places.paths[i];
}

}  // namespace

chain::ChainFile open_for_device(const std::string& path, const StartOptions& options) {
    chain::ChainFile file{File(path)};
    allow_open_files(1);
    const chain::Places places = chain::find_layers(file, options.which);
    require_nobody_writes(file, places);
    require_no_turn(image_on_top(file, places));
    if (!file.sectors()) throw empty_disk(path);
    if (const chain_layer* active = file.active()) {
        const std::string& layer = places.paths[static_cast<std::size_t>(active - file.layers().data())];
        if (!qcow2::is_in_use(File(layer)))
            throw failed(
                "{}: its active layer {} was sealed since: if another layer took over from it, 'dmchain recover' that; "
                "otherwise 'dmchain create' makes a device of it",
                escaped(path), escaped(layer));
        require_unused(path);
        require_unused(layer);
        chain::require_ours(layer, options.take_over);
    }
    if (places.noted) return file;
    if (const auto use = user_of(file.file().identity()))
        throw failed("{}: was moved or copied, and the device {} uses it: remove that first", escaped(path),
                     escaped(use->device.name));
    chain::note(file, places);
    return chain::ChainFile{File(path)};
}

void start(const std::string& name, const chain::ChainFile& file, const dm::TableOptions& options) {
    dm::create(name, file.sectors(), dm::table_parameters(file.file().name(), options), !file.active());
}

}  // namespace dmchain::device
