// SPDX-License-Identifier: GPL-2.0-or-later
// What deactivate and 'remove --fast' have in common.
#pragma once

#include <string>

namespace dmchain::commands {

// Removes the device @name. Its layers and its chain file stay as they are. With @dry_run only says so.
void deactivate(const std::string& name, bool dry_run);

}  // namespace dmchain::commands
