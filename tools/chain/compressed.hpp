// SPDX-License-Identifier: GPL-2.0-or-later
// Neighbouring layers of a chain as one file whose clusters are compressed. For compact and export.
#pragma once

#include <cstdint>
#include <functional>

#include "chain/merge.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// As merge(), with zstd (QEMU 5.1 and later read it): clusters that do not get smaller, and those that the layers define in part only, are
// stored as they are. The file has its header last: until then it is no image. One that was cut off cannot go on: if @to.goes_on, what
// is there is complete, or made again. Of @to: share and request do not count.
bool merge_compressed(const qcow2::Chain& range, const MergeTo& to, const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain::chain
