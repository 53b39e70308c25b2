// SPDX-License-Identifier: GPL-2.0-or-later
// See made.hpp.
#include "commands/made.hpp"

#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "dm/device.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

void say_made(const std::string& name, const chain::ChainFile& file, bool json) {
    const chain_layer* active = file.active();
    const std::string& path = file.file().name();
    if (json) {
        const nlohmann::json out = {{"device", "/dev/mapper/" + name},
                                    {"chain_file", path},
                                    {"bytes", file.sectors() * 512},
                                    {"files", file.layers().size()},
                                    {"active_layer", active ? nlohmann::json(file.path(*active)) : nlohmann::json(nullptr)}};
        print_json(out);
    } else {
        fmt::print("/dev/mapper/{}: {}, {} files, {}; index in {}\n", escaped(name), human_size(file.sectors() * 512),
                   file.layers().size(), active ? "writes go to " + escaped(file.path(*active)) : "read-only", escaped(path));
    }
}

}  // namespace dmchain::commands
