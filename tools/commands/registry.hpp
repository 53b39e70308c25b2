// SPDX-License-Identifier: GPL-2.0-or-later
// The commands of dmchain: each is one file that defines the function named here, which adds its
// subcommand to the parser; registry.cpp lists them all.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "io/error.hpp"

namespace dmchain::commands {

// Adds a subcommand and returns it; its callback does the work and may set @status to an exit code other than
// done. What it throws ends the program with one line and the error's code.
using Add = CLI::App* (*)(CLI::App& app, Exit& status);

CLI::App* add_inspect(CLI::App& app, Exit& status);
CLI::App* add_snapshots(CLI::App& app, Exit& status);
CLI::App* add_check(CLI::App& app, Exit& status);
CLI::App* add_survey(CLI::App& app, Exit& status);
CLI::App* add_diff(CLI::App& app, Exit& status);
CLI::App* add_export(CLI::App& app, Exit& status);
CLI::App* add_import(CLI::App& app, Exit& status);
CLI::App* add_serve(CLI::App& app, Exit& status);
CLI::App* add_create(CLI::App& app, Exit& status);
CLI::App* add_activate(CLI::App& app, Exit& status);
CLI::App* add_table(CLI::App& app, Exit& status);
CLI::App* add_index(CLI::App& app, Exit& status);
CLI::App* add_release(CLI::App& app, Exit& status);
CLI::App* add_clone(CLI::App& app, Exit& status);
CLI::App* add_move(CLI::App& app, Exit& status);
CLI::App* add_rollback(CLI::App& app, Exit& status);
CLI::App* add_remove(CLI::App& app, Exit& status);
CLI::App* add_deactivate(CLI::App& app, Exit& status);
CLI::App* add_snapshot(CLI::App& app, Exit& status);
CLI::App* add_compact(CLI::App& app, Exit& status);
CLI::App* add_seal(CLI::App& app, Exit& status);
CLI::App* add_recover(CLI::App& app, Exit& status);
CLI::App* add_resize(CLI::App& app, Exit& status);
CLI::App* add_ls(CLI::App& app, Exit& status);
CLI::App* add_status(CLI::App& app, Exit& status);
CLI::App* add_hold(CLI::App& app, Exit& status);
CLI::App* add_guest_map(CLI::App& app, Exit& status);
CLI::App* add_replicate(CLI::App& app, Exit& status);
CLI::App* add_restore(CLI::App& app, Exit& status);
CLI::App* add_scrub(CLI::App& app, Exit& status);
CLI::App* add_repair(CLI::App& app, Exit& status);
CLI::App* add_gc(CLI::App& app, Exit& status);
CLI::App* add_doctor(CLI::App& app, Exit& status);
CLI::App* add_help(CLI::App& app, Exit& status);

// Calls all of them.
void add_commands(CLI::App& app, Exit& status);

}  // namespace dmchain::commands
