// SPDX-License-Identifier: GPL-2.0-or-later
// Finds everything that is wrong with an image of a chain, for dmchain check: what map() finds, and
// besides clusters that are used twice or do not inflate, and refcounts that are too low.
#pragma once

#include <cstdint>

#include "io/function_ref.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/faults.hpp"

namespace dmchain::qcow2 {

// @faults in collect mode. @progress is called with bytes of the layer's virtual disk, from this thread.
// I/O errors are thrown. Returns the number of leaked clusters, which the refcounts hold though nothing uses them: a
// waste of space, no fault. If there are faults the number means little: what they hide is not counted as used.
// Refcounts are not looked at in a dirty image, which says itself that they are not right, nor in one in use.
std::uint64_t check_layer(const Layer& layer, Faults& faults, FunctionRef<void(std::uint64_t)> progress);

}  // namespace dmchain::qcow2
