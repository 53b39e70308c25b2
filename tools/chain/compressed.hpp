// SPDX-License-Identifier: GPL-2.0-or-later
// A disk as one qcow2 file whose clusters are compressed. For export.hpp.
#pragma once

#include "chain/export.hpp"
#include "chain/output.hpp"

namespace dmchain::chain {

// Writes @chain's disk to @out, with zstd (QEMU 5.1 and later read it); clusters that do not get smaller are stored as they are. @how: replace
// does not count.
void write_compressed(const qcow2::Chain& chain, Output& out, const ExportHow& how);

}  // namespace dmchain::chain
