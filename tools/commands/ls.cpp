// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain ls: the devices there are.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "dm/device.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

void add_ls(CLI::App& app, Exit&) {
    auto json = std::make_shared<bool>(false);
    CLI::App* c = app.add_subcommand("ls", "List the devices with a chain target");
    c->add_flag("--json", *json, "Print JSON");
    c->callback([json] {
        nlohmann::json out = nlohmann::json::array();
        for (const dm::Device& d : dm::list()) {
            const dm::Status s = dm::status(d.name);
            const std::string table = dm::parameters(d.name);
            if (*json)
                out.push_back({{"name", d.name},
                               {"major", d.major},
                               {"minor", d.minor},
                               {"open", d.open_count},
                               {"read_only", d.read_only},
                               {"suspended", d.suspended},
                               {"bytes", s.sectors * 512},
                               {"depth", s.depth},
                               {"table", table}});
            else
                fmt::print("{:<24} {:>10} {:>5} layers  {:<4} open {:<3} {}\n", escaped(d.name), human_size(s.sectors * 512),
                           s.depth, s.mode, d.open_count, escaped(table));
        }
        if (*json) print_json(out);
    });
}

}  // namespace dmchain::commands
