// SPDX-License-Identifier: GPL-2.0-or-later
// Builds the chain file of a chain: one pass over the L2 tables, base first, in windows of the virtual
// disk that several threads take in turn. Used by create and table.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "qcow2/chain.hpp"

namespace dmchain::chain {

struct BuildOptions {
    unsigned threads = 0;  // 0: one for each processor
    // Called from the building thread now and then: clusters done, of all.
    std::function<void(std::uint64_t, std::uint64_t)> progress;
};

struct BuildResult {
    std::uint64_t sectors = 0;     // of the virtual disk
    std::uint64_t nodes = 0;       // in the chain file
    std::uint64_t clusters = 0;    // that some layer has
    std::uint64_t file_bytes = 0;  // of the chain file
};

// Writes the chain file @path anew: under a temporary name, superblock last, then renamed. On an error
// what stood at @path before still does. Throws damaged() for what is wrong in the images.
BuildResult build(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options = {});

}  // namespace dmchain::chain
