// SPDX-License-Identifier: GPL-2.0-or-later
// How the target reads a layer, in words. For status and inspect.
#pragma once

#include <string>

namespace dmchain::commands {

// @way: the target's word for it. The words are those of docs/extents.md.
std::string how_read(const std::string& way);

}  // namespace dmchain::commands
