// SPDX-License-Identifier: GPL-2.0-or-later
// What operations that were broken off left in folders: which of it is provably nobody's, and removing that. For gc.
#pragma once

#include <string>
#include <vector>

#include "chain/fleet.hpp"

namespace dmchain::device {

struct Verdict {
    std::string path;
    Identity identity;  // of what was judged
    bool garbage;       // it is nobody's; otherwise it is left alone
    std::string why;
    bool spare = false;  // a layer that a device could go on in if it is told to (spare.hpp)
};

// Judges every leftover, and every file of dm-chain that belongs to nothing; in the order in which to remove them. Throws
// failed() if what the devices of this machine have open cannot be told.
std::vector<Verdict> judge(const chain::Fleet& fleet);

// Removes the file if it still is what was judged, and nobody has it open or locked. Throws failed() if not: then it is
// still there.
void remove_garbage(const Verdict& verdict);

}  // namespace dmchain::device
