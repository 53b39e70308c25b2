// SPDX-License-Identifier: GPL-2.0-or-later
// Which layer a chain has on top, by what the layers' logs say. For recover.
#pragma once

#include <string>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::chain {

struct Top {
    std::string path;                   // of the layer that is to be active
    std::vector<std::string> passed{};  // closed layers that led to it, from the one that was named
};

// Begins at the layer @path, which must be in use, and follows the logs that say that another layer took over.
// Throws failed() if one is missing, is another layer than it was, or is sealed.
Top find_top(const std::string& path, const qcow2::ChainOptions& options);

// Every layer below the one on top that is not sealed must have a log that was closed: another could still be active.
void require_closed_logs(const qcow2::Chain& chain);

}  // namespace dmchain::chain
