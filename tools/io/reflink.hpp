// SPDX-License-Identifier: GPL-2.0-or-later
// Files that share blocks, where the file system can do that (xfs, btrfs). See also Writable::share().
#pragma once

#include <cstdint>
#include <string>

namespace dmchain {

// Files in the two folders can share blocks of so many bytes; 0: they cannot. Tried with files that have no names: of a file that
// shared blocks once the file system remembers that. Throws NoRoom (no_room.hpp) if there is no room for them.
std::uint64_t can_share_blocks(const std::string& folder, const std::string& other);

// After files that the file at @path shared its blocks with are gone: the file system forgets that it did, if none of its blocks
// is shared any more; waits up to two seconds for that. What cannot be done is left.
void forget_shared(const std::string& path);

}  // namespace dmchain
