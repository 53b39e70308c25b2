// SPDX-License-Identifier: GPL-2.0-or-later
// Where the layers of a chain file are now: it may have been moved, copied or restored with them since it was built.
#pragma once

#include <string>
#include <vector>

#include "chain/chain_file.hpp"

namespace dmchain::chain {

// Which of two different files is a layer: one as far from the chain file as it was when that was built, and one
// under the name it had then.
enum class Which { ask, here, original };

struct Places {
    std::vector<std::string> paths{};  // of the layers, absolute, in the order of the table
    bool noted = true;                 // that is what the chain file says, of itself too; otherwise note() it
};

// Looks for each layer beside the chain file first, in the same relative place as when it was built, then under its
// recorded name, and compares it with what it was: size, time of modification and inode, or instead of that its
// first bytes; a layer that is not sealed by the id of its log; a device by size and first bytes. Throws failed() for the first
// that is missing or another, and, with Which::ask, for the first of which there are two.
Places find_layers(const ChainFile& file, Which which = Which::ask);

// Where a layer may be, though it is not what it was.
std::string likely_path(const ChainFile& file, const chain_layer& layer);

// Writes @places into the chain file, in one step; a copy gets an id of its own. No device may use it. Throws failed().
void note(const ChainFile& file, const Places& places);

}  // namespace dmchain::chain
