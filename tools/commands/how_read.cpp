// SPDX-License-Identifier: GPL-2.0-or-later
// See how_read.hpp.
#include "commands/how_read.hpp"

#include <map>

namespace dmchain::commands {

std::string how_read(const std::string& way) {
    static const std::map<std::string, std::string> reasons = {
        {"active", "being written"},
        {"alignment", "the disk's alignment"},
        {"block_size", "the file system's block size"},
        {"dax", "DAX"},
        {"empty", "shorter than a block"},
        {"encrypted", "encrypted"},
        {"file_io", "option file_io"},
        {"filesystem", "neither ext4 nor XFS"},
        {"frozen", "not sealed yet"},
        {"growing", "being added to"},
        {"lease", "no lease on its layout"},
        {"memory", "too little memory"},
        {"no_direct_io", "journalled or inline data"},
        {"shared", "shares blocks with other files"},
        {"swap", "a swap file"},
        {"unwritten", "what was cached could not be written"},
        {"verity", "fs-verity"},
        {"writable", "others can open it for writing"},
    };
    const std::string file = "file:";
    if (way == "extent") return "straight from the disk";
    if (!way.starts_with(file)) return "from a block device";
    const auto reason = reasons.find(way.substr(file.size()));
    return "through the file system: " + (reason == reasons.end() ? way.substr(file.size()) : reason->second);
}

}  // namespace dmchain::commands
