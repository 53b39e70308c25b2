// SPDX-License-Identifier: GPL-2.0-or-later
// Where the metadata of an image lies: collected when an image is opened, sorted, and then asked
// for the free space around an offset, so that neighbouring data clusters need one compare.
#pragma once

#include <cstdint>
#include <vector>

namespace dmchain::qcow2 {

enum class Part : std::uint8_t {
    header,
    l1_table,
    l2_table,
    refcount_table,
    refcount_block,
    snapshot_table,
    snapshot_l1,
    snapshot_l2,
    bitmap_directory,
};
const char* name_of(Part part);

struct Region {
    std::uint64_t begin;  // bytes in the image, multiples of the cluster size
    std::uint64_t end;
    Part part;
};

class Regions {
public:
    struct Gap {
        std::uint64_t begin;
        std::uint64_t end;
    };
    struct Overlap {
        Region a;
        Region b;
    };

    void add(Part part, std::uint64_t begin, std::uint64_t end) { all_.push_back({begin, end, part}); }
    const std::vector<Region>& all() const { return all_; }

    // Sorts; from then on the set is read-only. Returns the overlaps, except those that are no fault:
    // snapshots share tables with each other and with the active state. Keeps the regions disjoint.
    std::vector<Overlap> settle();

    // The region that @offset lies in, or nullptr.
    const Region* find(std::uint64_t offset) const;
    // The space without metadata around @offset, which lies in none; end is ~0 after the last region.
    Gap gap(std::uint64_t offset) const;

private:
    std::vector<Region> all_;
};

}  // namespace dmchain::qcow2
