// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain table: the table line for "dmsetup create --readonly".
#include <filesystem>
#include <memory>

#include "commands/open_chain.hpp"
#include "dm/device.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    ImageOptions image;
    std::string chain_file;
    std::optional<std::uint64_t> index_cache;
};

void run(const Options& o) {
    std::string path = o.image.image;
    if (!chain::is_chain_file(File(path))) {
        path = o.chain_file.empty() ? chain_file_beside(path, std::filesystem::path(Place(path).path()).filename().string())
                                    : o.chain_file;
        check_chain_file_place(path);
        build_chain_file(o.image, path);
    }
    const chain::ChainFile file = open_for_device(path);
    fmt::print("0 {} chain {}\n", file.sectors(), dm::table_parameters(file.file().path(), o.index_cache));
}

}  // namespace

void add_table(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("table",
                                     "Print the table line of an image (whose index is built) or a chain file, "
                                     "for 'dmsetup create --readonly NAME'");
    add_image_options(*c, o->image);
    c->add_option("--chain", o->chain_file, "Where the chain file of IMAGE goes (default: IMAGE.chain beside IMAGE)")
        ->type_name("FILE");
    add_cache_option(*c, o->index_cache);
    c->callback([o] { run(*o); });
}

}  // namespace dmchain::commands
