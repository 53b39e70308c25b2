// SPDX-License-Identifier: GPL-2.0-or-later
// Brings a store back to what its snapshots should have; and takes away what belongs to none.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "replica/catalog.hpp"

namespace dmchain::replica {

// What repair() has to do, or has done.
struct Repair {
    std::uint64_t copies = 0, bytes = 0;  // of pieces that are copied
    std::uint64_t damaged_copies = 0;     // that are written over, or removed
    std::uint64_t manifests = 0;
    std::vector<std::string> lost_snapshots{};  // that have lost something for good
};
// @pieces: as reading them found. Throws failed() if there are fewer folders than copies wanted.
Repair plan_repair(const Catalog& catalog, const Pieces& pieces, const Store& places);
// The folders are open for writing. At every moment all copies that are sound stay. @progress: bytes of copies more.
void repair(const Catalog& catalog, const Pieces& pieces, Store& places, const std::function<void(std::uint64_t)>& progress);

struct Unused {
    std::uint64_t copies = 0, bytes = 0;
};
// Throws failed() if some snapshot's manifest is lost, or some place could not say which it has: then nobody knows which pieces are
// in use.
void require_known(const Catalog& catalog);
// Removes pieces that no snapshot of the catalog names. Throws as require_known().
Unused remove_unused(const Catalog& catalog, const Store& places, bool dry_run);

}  // namespace dmchain::replica
