// SPDX-License-Identifier: GPL-2.0-or-later
// What create and activate say of the device that they made.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "chain/chain_file.hpp"

namespace dmchain::commands {

void say_made(const std::string& name, const chain::ChainFile& file, bool json);
// The same as JSON. @active_layer: its path, or "".
nlohmann::json device_facts(const std::string& name, const std::string& chain_file, std::uint64_t bytes, std::size_t files,
                            const std::string& active_layer, bool dry_run);

}  // namespace dmchain::commands
