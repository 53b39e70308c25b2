// SPDX-License-Identifier: GPL-2.0-or-later
// See made.hpp.
#include "commands/made.hpp"

#include "commands/print_json.hpp"
#include "dm/device.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

nlohmann::json device_facts(const std::string& name, const std::string& chain_file, std::uint64_t bytes, std::size_t files,
                            const std::string& active_layer, bool dry_run) {
    return {{"device", "/dev/mapper/" + name},
            {"chain_file", chain_file},
            {"bytes", bytes},
            {"file_count", files},
            {"active_layer", active_layer.empty() ? nlohmann::json(nullptr) : nlohmann::json(active_layer)},
            {"dry_run", dry_run}};
}

void say_made(const std::string& name, const chain::ChainFile& file, bool json) {
    const chain_layer* active = file.active();
    const std::string& path = file.file().name();
    if (json) {
        print_json(device_facts(name, path, file.sectors() * 512, file.layers().size(), active ? file.path(*active) : "", false));
    } else {
        fmt::print("/dev/mapper/{}: {}, {}, {}; index in {}\n", escaped(name), human_size(file.sectors() * 512),
                   counted(file.layers().size(), "file"), active ? "writes go to " + escaped(file.path(*active)) : "read-only",
                   escaped(path));
    }
}

}  // namespace dmchain::commands
