// SPDX-License-Identifier: GPL-2.0-or-later
#include "commands/open_chain.hpp"
#include "commands/print_json.hpp"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "chain/builder.hpp"
#include "dm/device.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace fs = std::filesystem;

std::string chain_file_beside(const std::string& image, const std::string& name) {
    return (fs::path(Place(image).path()).parent_path() / (name + ".chain")).string();
}

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

}  // namespace

void check_chain_file_place(const std::string& path, bool recovered) {
    std::error_code none;
    dm::table_parameters(fs::absolute(path).string(), {});  // refuses a path that no table line can say
    if (fs::exists(path, none) && !(fs::is_regular_file(path, none) && chain::is_chain_file(File(path))))
        throw failed("{}: exists and is not a chain file: move it away, or name another place with --chain", escaped(path));
    if (recovered || !fs::exists(path, none)) return;
    if (const std::string layer = active_layer_of(path); !layer.empty())
        throw failed(
            "{}: has the active layer {}, which is not sealed: 'dmchain activate' it or 'dmchain seal' the layer first, "
            "or name another place with --chain",
            escaped(path), escaped(layer));
}

void build_chain_file(const ImageOptions& image, const std::string& path, bool active) {
    const qcow2::Chain chain(image.image, image.chain);
    if (!chain.virtual_size()) throw empty_disk(image.image);
    build_chain_file(chain, path, active);
}

void build_chain_file(const qcow2::Chain& chain, const std::string& path, bool active) {
    chain::BuildOptions options;
    options.active = active;
    if (::isatty(STDERR_FILENO))
        options.progress = [](std::uint64_t done, std::uint64_t all) {
            fmt::print(stderr, "\rindex: {:3} %", all ? 100 * done / all : 100);
        };
    chain::build(chain, path, options);
    if (options.progress) fmt::print(stderr, "\r             \r");
}

namespace {

// By QEMU's locks, which are only looked at: the target, which opens the layers next, has none.
void require_nobody_writes(const chain::ChainFile& file) {
    for (const chain_layer& r : file.layers()) {
        const File layer(file.path(r));
        require_image_lock(layer.fd(), layer.path(), &r == file.active() ? ImageUse::write : ImageUse::read);
    }
}

}  // namespace

chain::ChainFile open_for_device(const std::string& path) {
    chain::ChainFile file{File(path)};
    allow_open_files(1);
    file.verify_layers();
    require_nobody_writes(file);
    if (!file.sectors()) throw empty_disk(path);
    if (file.active() && !qcow2::is_in_use(File(file.path(*file.active()))))
        throw failed(
            "{}: its active layer {} was sealed since: if another layer took over from it, 'dmchain recover' that; "
            "otherwise 'dmchain create' makes a device of it",
            escaped(path), escaped(file.path(*file.active())));
    return file;
}

void add_cache_option(CLI::App& command, std::optional<std::uint64_t>& bytes) {
    take_size(*command.add_option_function<std::uint64_t>(
        "--index-cache", [&bytes](const std::uint64_t& n) { bytes = n; },
        "Memory that the target may use for its index, e.g. 64M (default 256M)"));
}

void create_device(const std::string& name, const chain::ChainFile& file, std::optional<std::uint64_t> index_cache, bool json) {
    const chain_layer* active = file.active();
    dm::create(name, file.sectors(), dm::table_parameters(file.file().path(), index_cache), !active);
    if (json) {
        const nlohmann::json out = {{"device", "/dev/mapper/" + name},
                                    {"chain_file", file.file().path()},
                                    {"bytes", file.sectors() * 512},
                                    {"files", file.layers().size()},
                                    {"active", active ? nlohmann::json(file.path(*active)) : nlohmann::json(nullptr)}};
        print_json(out);
    } else {
        fmt::print("/dev/mapper/{}: {}, {} files, {}; index in {}\n", escaped(name), human_size(file.sectors() * 512),
                   file.layers().size(), active ? "writes go to " + escaped(file.path(*active)) : "read-only",
                   escaped(file.file().path()));
    }
}

}  // namespace dmchain::commands
