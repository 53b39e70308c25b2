// SPDX-License-Identifier: GPL-2.0-or-later
// What deactivate and remove have in common.
#pragma once

#include <string>

#include "device/live.hpp"

namespace dmchain::commands {

// The layers that are not sealed, base first, by the names they have now. Throws failed() if one was removed: the device
// alone has what is in it.
std::vector<std::string> unsealed_of(const device::Live& device);

// Removes the device @name. Its layers and its chain file stay as they are; a chain file that somebody took away while the
// device was in use is rebuilt. With @dry_run only says so. @allow: as in qcow2::ChainOptions.
void deactivate(const std::string& name, const std::vector<std::string>& allow, bool dry_run);

}  // namespace dmchain::commands
