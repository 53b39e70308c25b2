// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain: reads the command line, runs one command, turns its failure into one line and an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>

#include "commands/nearest.hpp"
#include "commands/registry.hpp"
#include "io/text.hpp"

namespace {

using dmchain::Exit;

int leave(Exit code, const std::string& message) {
    fmt::print(stderr, "dmchain: {}\n", message);
    return static_cast<int>(code);
}

// Where the one who typed that finds how it is typed.
std::string hint(const CLI::App& app) {
    const auto commands = app.get_subcommands();
    return fmt::format("see dmchain {}--help", commands.empty() ? "" : commands.front()->get_name() + " ");
}

// What to say if @name is no command; "" if it is one.
std::string no_such_command(const CLI::App& app, const std::string& name) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
        names.push_back(command->get_name());
    if (std::find(names.begin(), names.end(), name) != names.end()) return {};
    const std::string meant = dmchain::commands::nearest(name, names);
    return fmt::format("there is no command {}{} (see dmchain --help)", dmchain::in_quotes(name),
                       meant.empty() ? "" : "; did you mean '" + meant + "'?");
}

int run(int argc, char** argv) {
    Exit status = Exit::done;
    CLI::App app("Chains of qcow2 images as flat block devices", "dmchain");
    app.require_subcommand(1);
    app.set_version_flag("--version", "dmchain " DMCHAIN_VERSION, "Print the version and exit");
    app.footer("'dmchain help COMMAND' prints the options of a command, its manual page says more.");
    app.failure_message([&app](const CLI::App*, const CLI::Error& e) {
        return fmt::format("dmchain: {} ({})\n", dmchain::escaped(e.what()), hint(app));
    });
    dmchain::commands::add_commands(app, status);
    if (argc > 1 && argv[1][0] != '-')
        if (const std::string problem = no_such_command(app, argv[1]); !problem.empty()) return leave(Exit::usage, problem);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        if (app.exit(e) != 0) status = Exit::usage;  // else it was --help or --version
    } catch (const dmchain::Error& e) {
        if (e.code() != Exit::usage) throw;
        std::fflush(stdout);
        return leave(e.code(), fmt::format("{} ({})", e.what(), hint(app)));
    }
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0) return leave(Exit::failed, "cannot write to standard output");
    return static_cast<int>(status);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const dmchain::Error& e) {
        std::fflush(stdout);
        return leave(e.code(), e.what());
    } catch (const std::bad_alloc&) {
        return leave(Exit::failed, "out of memory");
    } catch (const std::exception& e) {
        return leave(Exit::failed, dmchain::escaped(e.what()));
    }
}
