// SPDX-License-Identifier: GPL-2.0-or-later
// Names of files and folders in the making: NAME.PID.tmp. Whoever makes one holds a lock on it (flock), which ends with the process.
#pragma once

#include <string>

#include "io/function_ref.hpp"

namespace dmchain::chain {

// For this process to make @path.
std::string temporary_name(const std::string& path);
// Calls @use for what is there under such a name for @path, of any process, this one's included.
void each_temporary(const std::string& path, FunctionRef<void(const std::string& temporary)> use);

}  // namespace dmchain::chain
