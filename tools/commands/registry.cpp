// SPDX-License-Identifier: GPL-2.0-or-later
// See registry.hpp. A new command is declared there and added to the list here.
#include "commands/registry.hpp"

namespace dmchain::commands {

void add_commands(CLI::App& app, Exit& status) {
    static constexpr Add all[] = {
        add_inspect, add_check,  add_create, add_activate, add_table, add_snapshot,
        add_seal,    add_resize, add_remove, add_recover,  add_ls,    add_status,
    };
    for (Add add : all) add(app, status);
}

void add_image_options(CLI::App& command, ImageOptions& options) {
    command.add_option("IMAGE", options.image, "The qcow2 image on top of the chain")->required();
    command
        .add_option("--allow", options.chain.allow,
                    "Folder (or file) outside IMAGE's own folder that images may name, or none; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    command.add_flag("--assume-raw", options.chain.assume_raw,
                     "Take a backing file without a declared format for raw if it is not qcow2");
    command.add_flag("--ignore-corrupt", options.chain.ignore_corrupt,
                     "Read images that are marked corrupt, as far as they are sound");
    command
        .add_option_function<std::string>(
            "--snapshot", [&options](const std::string& s) { options.chain.snapshot = s; },
            "Look at IMAGE's internal snapshot with this id or name instead of its current state")
        ->type_name("ID|NAME");
}

void take_size(CLI::Option& option) {
    option
        .transform(CLI::AsSizeValue(false))
        // Run before that: -1 would become a very large number.
        ->transform(CLI::Validator(
            [](std::string& text) {
                return !text.empty() && text.front() == '-' ? "a number of bytes cannot be negative" : std::string();
            },
            ""))
        ->type_name("BYTES");
}

}  // namespace dmchain::commands
