// SPDX-License-Identifier: GPL-2.0-or-later
// A picture of a guest's memory: in each part of it, how much every class has. It has a fixed number of parts, whatever the size.
#pragma once

#include <string>

#include "guest/classify.hpp"
#include "guest/image.hpp"

namespace dmchain::commands {

// For gnuplot.
std::string class_plot(const guest::Image& image, const guest::PageMap& map);

}  // namespace dmchain::commands
