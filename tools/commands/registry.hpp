// SPDX-License-Identifier: GPL-2.0-or-later
// The commands of dmchain: each is one file that defines the function named here, which adds its
// subcommand to the parser; registry.cpp lists them all.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "io/error.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::commands {

// Adds a subcommand; its callback does the work and may set @status to an exit code other than
// done. What it throws ends the program with one line and the error's code.
using Add = void (*)(CLI::App& app, Exit& status);

void add_inspect(CLI::App& app, Exit& status);
void add_check(CLI::App& app, Exit& status);
void add_create(CLI::App& app, Exit& status);
void add_activate(CLI::App& app, Exit& status);
void add_deactivate(CLI::App& app, Exit& status);
void add_table(CLI::App& app, Exit& status);
void add_remove(CLI::App& app, Exit& status);
void add_snapshot(CLI::App& app, Exit& status);
void add_seal(CLI::App& app, Exit& status);
void add_recover(CLI::App& app, Exit& status);
void add_resize(CLI::App& app, Exit& status);
void add_ls(CLI::App& app, Exit& status);
void add_status(CLI::App& app, Exit& status);

// Calls all of them.
void add_commands(CLI::App& app, Exit& status);

// The options of every command that reads an image chain.
struct ImageOptions {
    std::string image;
    qcow2::ChainOptions chain;
};
void add_image_options(CLI::App& command, ImageOptions& options);

// Makes @option a number of bytes, with k, M, G... if the user likes.
void take_size(CLI::Option& option);

}  // namespace dmchain::commands
