// SPDX-License-Identifier: GPL-2.0-or-later
// See regions.hpp.
#include "qcow2/regions.hpp"

#include <algorithm>
#include <tuple>

namespace dmchain::qcow2 {

const char* name_of(Part part) {
    switch (part) {
    case Part::header: return "header";
    case Part::l1_table: return "L1 table";
    case Part::l2_table: return "L2 table";
    case Part::refcount_table: return "refcount table";
    case Part::refcount_block: return "refcount block";
    case Part::snapshot_table: return "snapshot table";
    case Part::snapshot_l1: return "L1 table of a snapshot";
    case Part::snapshot_l2: return "L2 table of a snapshot";
    case Part::bitmap_directory: return "bitmap directory";
    }
    return "metadata";
}

std::vector<Regions::Overlap> Regions::settle() {
    std::vector<Overlap> overlaps;
    std::sort(all_.begin(), all_.end(), [](const Region& a, const Region& b) {
        return std::tie(a.begin, a.part, a.end) < std::tie(b.begin, b.part, b.end);
    });
    auto shared = [](const Region& a, const Region& b) {
        if (a.begin != b.begin) return false;
        if (b.part == Part::snapshot_l2) return a.part == Part::l2_table || a.part == Part::snapshot_l2;
        return a.part == Part::snapshot_l1 && b.part == Part::snapshot_l1;
    };
    std::size_t kept = 0;
    for (const Region r : all_) {
        if (r.begin == r.end) continue;
        if (kept > 0 && r.begin < all_[kept - 1].end) {
            Region& last = all_[kept - 1];
            if (!shared(last, r)) overlaps.push_back({last, r});
            last.end = std::max(last.end, r.end);
        } else if (kept > 0 && r.begin == all_[kept - 1].end && r.part == all_[kept - 1].part && r.part == Part::refcount_block) {
            all_[kept - 1].end = r.end;  // never named one by one: keep the set small
        } else {
            all_[kept++] = r;
        }
    }
    all_.resize(kept);
    all_.shrink_to_fit();
    return overlaps;
}

const Region* Regions::find(std::uint64_t offset) const {
    auto after = std::upper_bound(all_.begin(), all_.end(), offset, [](std::uint64_t o, const Region& r) { return o < r.begin; });
    if (after == all_.begin()) return nullptr;
    const Region& r = *std::prev(after);
    return offset < r.end ? &r : nullptr;
}

Regions::Gap Regions::gap(std::uint64_t offset) const {
    auto after = std::upper_bound(all_.begin(), all_.end(), offset, [](std::uint64_t o, const Region& r) { return o < r.begin; });
    return {after == all_.begin() ? 0 : std::prev(after)->end, after == all_.end() ? ~std::uint64_t{0} : after->begin};
}

}  // namespace dmchain::qcow2
