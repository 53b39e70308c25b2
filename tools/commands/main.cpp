// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain: reads the command line, runs one command, turns its failure into one line and an exit code.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <new>

#include "commands/registry.hpp"
#include "io/text.hpp"

namespace {

using dmchain::Exit;

int leave(Exit code, const std::string& message) {
    fmt::print(stderr, "dmchain: {}\n", message);
    return static_cast<int>(code);
}

int run(int argc, char** argv) {
    Exit status = Exit::done;
    CLI::App app("Chains of qcow2 images as flat block devices", "dmchain");
    app.require_subcommand(1);
    app.failure_message([](const CLI::App*, const CLI::Error& e) {
        return fmt::format("dmchain: {} (see dmchain --help)\n", dmchain::escaped(e.what()));
    });
    dmchain::commands::add_commands(app, status);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        if (app.exit(e) != 0) status = Exit::usage;  // else it was --help
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
