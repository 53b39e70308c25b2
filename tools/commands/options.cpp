// SPDX-License-Identifier: GPL-2.0-or-later
// See options.hpp.
#include "commands/options.hpp"

#include <fmt/format.h>

#include <map>

namespace dmchain::commands {

void add_allow_options(CLI::App& command, std::vector<std::string>& allow, bool& assume_raw, const std::string& own) {
    command
        .add_option("--allow", allow, "Folder (or file) outside " + own + " own folder that images may name, or none; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    command.add_flag("--assume-raw", assume_raw, "Treat a backing file without a declared format as raw if it is not qcow2");
}

void add_image_options(CLI::App& command, ImageOptions& options) {
    command.add_option("IMAGE", options.image, "The qcow2 image on top of the chain")->required();
    add_allow_options(command, options.chain.allow, options.chain.assume_raw, "IMAGE's");
    command.add_flag("--ignore-corrupt", options.chain.ignore_corrupt,
                     "Read images that are marked corrupt, as far as they are sound");
    command
        .add_option_function<std::string>(
            "--snapshot", [&options](const std::string& s) { options.chain.snapshot = s; },
            "Use IMAGE's internal snapshot with this id or name instead of its current state")
        ->type_name("ID|NAME");
}

void add_force_share(CLI::App& command, ImageOptions& options) {
    options.chain.force_share = false;
    command.add_flag_callback(
        "--force-share", [&options] { options.chain.force_share = true; },
        "Also look at images that another program has open for writing; what is shown of them may be wrong");
}

void say_warnings(const qcow2::Chain& chain) {
    for (const std::string& w : chain.warnings()) fmt::print(stderr, "dmchain: warning: {}\n", w);
}

void add_take_over_option(CLI::App& command, bool& take_over) {
    command.add_flag("--take-over", take_over,
                     "Also if another machine owns the active layer; that one must not write to it any more, see dmchain(8)");
}

qcow2::ChainOptions held(qcow2::ChainOptions options) {
    options.hold = true;
    return options;
}

void add_seal_options(CLI::App& command, device::SealHow& how) {
    command.add_flag("--no-subclusters", how.fill,
                     "Fill clusters that the layer owns in part from the layers below, instead of using extended L2 entries");
    add_allow_options(command, how.allow, how.assume_raw, "the layer's");
}

namespace {

void add_bytes(CLI::App& command, const char* name, std::optional<std::uint64_t>& bytes, const char* help) {
    take_size(*command.add_option_function<std::uint64_t>(
        name, [&bytes](const std::uint64_t& n) { bytes = n; }, help));
}

}  // namespace

void add_table_options(CLI::App& command, dm::TableOptions& o) {
    add_bytes(command, "--index-cache", o.index_cache, "Memory that the target may use for its index, e.g. 64M (default 256M)");
    add_bytes(command, "--replay", o.replay, "How much of the log an activation after a crash may have to read (default 16M)");
    add_bytes(command, "--low-water", o.low_water,
              "Raise an event when less room than this is left for writes (default 1G, 0: never)");
    command.add_flag("--error-if-no-space", o.error_if_no_space, "Writes for which there is no room fail, instead of waiting");
    command.add_flag("--file-io", o.file_io, "Read sealed layers through the file system, never straight from the disk");
}

void add_which_option(CLI::App& command, chain::Which& which) {
    static const std::map<std::string, chain::Which> names = {{"here", chain::Which::here}, {"original", chain::Which::original}};
    command
        .add_option("--layers", which,
                    "If CHAIN was copied with its layers: use the ones beside the copy, or the ones it was copied from")
        ->transform(CLI::CheckedTransformer(names).description(""))
        ->type_name("here|original");
}

void take_size(CLI::Option& option) {
    option
        .transform(CLI::AsSizeValue(false).description(""))
        // Run before that: -1 would become a very large number.
        ->transform(CLI::Validator(
            [](std::string& text) {
                return !text.empty() && text.front() == '-' ? "a number of bytes cannot be negative" : std::string();
            },
            ""))
        ->type_name("BYTES");
}

}  // namespace dmchain::commands
