// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain ls: the devices there are.
#include <memory>

#include "commands/devices.hpp"
#include "commands/registry.hpp"

namespace dmchain::commands {

namespace {

std::vector<DeviceRow> all() {
    std::vector<DeviceRow> out;
    for (const dm::Device& d : dm::list()) {
        try {
            out.push_back({d, device::look_at(d.name)});
        } catch (const Error& e) {
            // It may have gone away just now; then there is nothing to say of it.
            if (dm::exists(d.name)) fmt::print(stderr, "dmchain: {}\n", e.what());
        }
    }
    return out;
}

}  // namespace

CLI::App* add_ls(CLI::App& app, Exit&) {
    auto report =
        std::make_shared<Report<DeviceRow>>(device_report("name,bytes,mode,layer_count,unsealed,open_count,active_layer"));
    CLI::App* c = app.add_subcommand("ls", "List the devices with a chain target");
    report->add_options(*c);
    c->callback([report] { report->print(all()); });
    return c;
}

}  // namespace dmchain::commands
