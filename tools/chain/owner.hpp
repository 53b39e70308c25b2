// SPDX-License-Identifier: GPL-2.0-or-later
// Whether this machine may write a chain: the layer that is active, or was last, says who does.
#pragma once

#include <string>

namespace dmchain::chain {

// @layer: one that is not sealed; of a frozen one the layer that took over from it counts. Throws failed(), with who has
// it, if another machine does; with @take_over the layer has no owner after this, and a line says whose it was.
void require_ours(const std::string& layer, bool take_over);

}  // namespace dmchain::chain
