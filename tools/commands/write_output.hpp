// SPDX-License-Identifier: GPL-2.0-or-later
// A file that a command was asked for besides what it prints.
#pragma once

#include <string>
#include <string_view>

namespace dmchain::commands {

// Writes @text to @path, in the place of what is there.
void write_output(const std::string& path, std::string_view text);

}  // namespace dmchain::commands
