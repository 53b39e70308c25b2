// SPDX-License-Identifier: GPL-2.0-or-later
// Options that several commands have.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "device/layer.hpp"
#include "device/start.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::commands {

// Of every command that reads an image chain.
struct ImageOptions {
    std::string image;
    qcow2::ChainOptions chain;
};
void add_image_options(CLI::App& command, ImageOptions& options);
// "--force-share", for commands that only look; and what it lets pass, told on standard error.
void add_force_share(CLI::App& command, ImageOptions& options);
void say_warnings(const qcow2::Chain& chain);
// "--allow", "--assume-raw", with @own in the words for the folder that needs none.
void add_allow_options(CLI::App& command, std::vector<std::string>& allow, bool& assume_raw, const std::string& own);
// For what reads snapshots: they stay what they are meanwhile.
qcow2::ChainOptions held(qcow2::ChainOptions options);

void add_seal_options(CLI::App& command, device::SealHow& how);
void add_take_over_option(CLI::App& command, bool& take_over);
// Of the table line.
void add_table_options(CLI::App& command, dm::TableOptions& options);

// "--layers here|original"
void add_which_option(CLI::App& command, chain::Which& which);

// Makes @option a number of bytes, with k, M, G... if the user likes.
void take_size(CLI::Option& option);

}  // namespace dmchain::commands
