// SPDX-License-Identifier: GPL-2.0-or-later
// What libblkid finds on the virtual disk of a chain: file systems, partition tables and what is on
// the partitions. For inspect.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/reader.hpp"

namespace dmchain::device {

struct Content {
    int partition = 0;  // number, or 0: the whole disk
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    // As libblkid names them ("TYPE", "LABEL", "UUID", "PTTYPE"...); "" if not there. Not escaped.
    std::string type, label, uuid, table, part_name;
};

// What cannot be read is left out; the reason is added to @problems.
std::vector<Content> find_content(qcow2::Reader& reader, std::uint64_t size, std::vector<std::string>& problems);

}  // namespace dmchain::device
