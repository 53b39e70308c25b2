// SPDX-License-Identifier: GPL-2.0-or-later
// The refcounts of an image, compared with who uses its clusters (references.hpp). Called by check.cpp.
#pragma once

#include <cstdint>

#include "io/function_ref.hpp"
#include "qcow2/faults.hpp"
#include "qcow2/image.hpp"

namespace dmchain::qcow2 {

// Reports to @faults, in collect mode, refcounts that are too low (a writer would give the cluster away, or
// write into one that a snapshot shares), copied flags that contradict them, and L2 entries that
// References finds wrong. @known(cluster): a fault of this cluster's use is reported already.
// Returns the number of leaked clusters: those whose refcount is higher than it must be, which only wastes space.
std::uint64_t check_refcounts(const Image& image, FunctionRef<bool(std::uint64_t)> known, Faults& faults);

}  // namespace dmchain::qcow2
