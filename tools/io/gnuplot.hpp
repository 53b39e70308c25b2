// SPDX-License-Identifier: GPL-2.0-or-later
// Plots, drawn by gnuplot(1).
#pragma once

#include <string>
#include <string_view>

namespace dmchain {

// The SVG that gnuplot makes of @script, which sets no terminal and no output. @width, @height: pixels. Throws failed() if
// gnuplot is not there, or fails.
std::string plot_svg(const std::string& script, unsigned width, unsigned height);

// @text as a word of a script, as io/text.hpp escapes it; whatever bytes it has, gnuplot only shows it.
std::string plot_text(std::string_view text);

}  // namespace dmchain
