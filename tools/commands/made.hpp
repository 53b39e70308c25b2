// SPDX-License-Identifier: GPL-2.0-or-later
// What create and activate say of the device that they made.
#pragma once

#include <string>

#include "chain/chain_file.hpp"

namespace dmchain::commands {

void say_made(const std::string& name, const chain::ChainFile& file, bool json);

// Refuses a name that device-mapper cannot have, or that a device has already.
void check_device_name(const std::string& name);

}  // namespace dmchain::commands
