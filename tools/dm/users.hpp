// SPDX-License-Identifier: GPL-2.0-or-later
// Who uses a device.
#pragma once

#include <string>

namespace dmchain::dm {

// Removes the device @name, and waits some seconds for one that only looks at it: udev does whenever somebody has
// written to it. Throws failed() if it is in use: at once if a file system is mounted from it or another device lies on it.
void remove_unused(const std::string& name);
// Throws failed() at once if the device @name is open, by whomever.
void require_unused(const std::string& name);

}  // namespace dmchain::dm
