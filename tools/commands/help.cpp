// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain help: the same as --help, of dmchain or of one command.
#include <fmt/format.h>

#include <memory>

#include "commands/registry.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

// Not CLI::App::help(), which is always about the command that runs.
std::string help_of(const CLI::App& app, const std::string& name) {
    return app.get_formatter()->make_help(&app, name, CLI::AppFormatMode::Normal);
}

void run(const CLI::App& app, const std::string& command) {
    if (command.empty()) {
        fmt::print("{}", help_of(app, app.get_name()));
        return;
    }
    const auto found = app.get_subcommands([&command](const CLI::App* c) { return c->get_name() == command; });
    if (found.empty()) throw Error(Exit::usage, fmt::format("{}: there is no such command", in_quotes(command)));
    fmt::print("{}", help_of(*found.front(), app.get_name() + " " + command));
}

}  // namespace

CLI::App* add_help(CLI::App& app, Exit&) {
    auto command = std::make_shared<std::string>();
    CLI::App* c = app.add_subcommand("help", "Print the options of dmchain, or of COMMAND");
    c->add_option("COMMAND", *command, "The command");
    c->callback([&app, command] { run(app, *command); });
    return c;
}

}  // namespace dmchain::commands
