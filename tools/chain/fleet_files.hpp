// SPDX-License-Identifier: GPL-2.0-or-later
// The first half of fleet.hpp: which files there are below the folders, and what each is by what it begins with.
#pragma once

#include "chain/fleet.hpp"

namespace dmchain::chain {

// What @file is; its header is read, and nothing else.
FleetFile examine(const File& file, bool below);

// Fills in folders, files and leftovers, and what of them cannot be read. Symlinks below the folders are not followed; a file
// with several names is there once.
void find_files(const FleetOptions& options, Fleet& fleet);

// For finding files by what they are.
using FileKey = std::pair<std::uint64_t, std::uint64_t>;
inline FileKey key_of(const Identity& i) {
    return i.block_device ? FileKey{~std::uint64_t{0}, i.special} : FileKey{i.device, i.inode};
}

}  // namespace dmchain::chain
