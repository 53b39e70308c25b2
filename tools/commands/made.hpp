// SPDX-License-Identifier: GPL-2.0-or-later
// What create and activate say of the device that they made.
#pragma once

#include <string>

#include "chain/chain_file.hpp"

namespace dmchain::commands {

void say_made(const std::string& name, const chain::ChainFile& file, bool json);

}  // namespace dmchain::commands
