// SPDX-License-Identifier: GPL-2.0-or-later
// Finds everything that is wrong with an image of a chain, for dmchain check: what map() finds, and
// besides clusters that are used twice, that the refcounts call free, or that do not inflate.
#pragma once

#include <cstdint>

#include "io/function_ref.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/faults.hpp"

namespace dmchain::qcow2 {

// @faults in collect mode. @progress is called with bytes of the layer's virtual disk, from this thread.
// I/O errors are thrown. Clusters that the refcounts hold though nothing uses them (leaks) lose space, no
// data, and are not reported; nor is a refcount compared with the number of users beyond one.
void check_layer(const Layer& layer, Faults& faults, FunctionRef<void(std::uint64_t)> progress);

}  // namespace dmchain::qcow2
