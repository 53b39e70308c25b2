// SPDX-License-Identifier: GPL-2.0-or-later
// Copies of files that share their blocks, where the file system can do that (xfs, btrfs).
#pragma once

#include <string>

namespace dmchain {

// Whether a copy of the file @path in @folder can share its blocks. Tried with a file that has no name: throws NoRoom
// (no_room.hpp) if there is no room for one.
bool can_reflink(const std::string& path, const std::string& folder);

// Makes @to, in the place of what is there, a copy of the file @path that shares its blocks. Throws failed().
void reflink(const std::string& path, const std::string& to);

}  // namespace dmchain
