// SPDX-License-Identifier: GPL-2.0-or-later
// The internal snapshots of a qcow2 image: their table, read and checked. They hold no part of the
// disk as it is now; dmchain can look at one instead of the current state when asked to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/faults.hpp"
#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

struct Snapshot {
    std::string id;
    std::string name;
    std::uint64_t l1_offset;
    std::uint32_t l1_entries;
    std::uint64_t size;            // bytes of the virtual disk then
    std::uint64_t vm_state_bytes;  // of the state of a running machine; 0: of the disk alone
};

struct SnapshotTable {
    std::vector<Snapshot> snapshots;
    std::uint64_t bytes = 0;  // length of the table in the image
};

// Entries that are wrong are reported to @faults and left out.
SnapshotTable read_snapshots(const File& file, const Header& header, Faults& faults);

}  // namespace dmchain::qcow2
