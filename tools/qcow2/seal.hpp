// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a plain qcow2 image of a layer that was active: writes L1, L2 and refcounts around its data clusters,
// which stay where they are, and then, at once, the header that names them. For seal, snapshot and remove.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "qcow2/chain.hpp"

namespace dmchain::qcow2 {

struct SealOptions {
    // Partly owned clusters are filled from the layers below, which are opened for that with @chain, instead of
    // written down with extended L2 entries. Also done where the clusters are too small for these (below 16 KiB).
    bool fill = false;
    ChainOptions chain;
    bool dry_run = false;  // only says what would be done
    std::function<void(std::uint64_t done, std::uint64_t all)> progress;
};

struct SealResult {
    bool was_sealed = false;     // it was sealed before; what that may have left undone is done
    std::uint64_t clusters = 0;  // that the layer defines, the next one included
    std::uint64_t partial = 0;   // of which it does not own all
    bool extended_l2 = false;
    std::uint64_t tables = 0;  // L2 tables
    std::uint64_t bytes = 0;   // of the file, afterwards
};

// The layer must not be written by anybody: whoever calls this has made sure that no device has it active. Killed
// at any point, the layer is either as it was or sealed, and calling this again finishes. Throws failed() for a
// file that is no layer of dm-chain.
SealResult seal(const std::string& path, const SealOptions& options);

}  // namespace dmchain::qcow2
