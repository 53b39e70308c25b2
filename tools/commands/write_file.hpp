// SPDX-License-Identifier: GPL-2.0-or-later
// Files that a command was asked for besides what it prints: plots, tables.
#pragma once

#include <string>
#include <string_view>

namespace dmchain::commands {

// Refuses a place for such a file where an image, a chain file, or no regular file is. Throws failed().
void require_place(const std::string& path);
// The same for a plot; also if gnuplot, which draws it, is not there.
void require_plot(const std::string& path);

// Writes @text to @path, in the place of what is there.
void write_file(const std::string& path, std::string_view text);

}  // namespace dmchain::commands
