// SPDX-License-Identifier: GPL-2.0-or-later
// Parts of a guest's disk that its file systems do not use.
#pragma once

#include <cstdint>
#include <vector>

#include "chain/copy_parts.hpp"

namespace dmchain::replica {

struct DiskRange {
    std::uint64_t begin = 0, end = 0;  // bytes of the disk
};

// Free blocks of the ext2, ext3 and ext4 file systems on the disk, or in its partitions, ascending; from libext2fs. Only of file
// systems that were unmounted or frozen (fsfreeze) at that time: the blocks of another one may have data of which only its memory, or
// its journal, says that they are in use. What is not understood is in use. @bytes: of the disk.
std::vector<DiskRange> free_blocks(const chain::ReadDisk& read, std::uint64_t bytes);

}  // namespace dmchain::replica
