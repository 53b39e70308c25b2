// SPDX-License-Identifier: GPL-2.0-or-later
// Builds the chain file of a chain: one pass over the L2 tables, base first, in windows of the virtual
// disk that several threads take in turn. Used by create and table.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "chain/writer.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

inline constexpr unsigned index_cluster_bits = 16;

struct BuildOptions {
    bool active = false;                 // the layer on top, which must be in use, is the active one
    bool replace = true;                 // what has the path now; false: throws failed() if there is something
    std::vector<std::string> growing{};  // paths of sealed layers that are changed from now on where no reader sees it
    unsigned threads = 0;                // 0: one for each processor
    // Called now and then by the thread that called build(): clusters done, of all.
    std::function<void(std::uint64_t, std::uint64_t)> progress;
};

// Writes the chain file @path: under a temporary name, superblock last, then renamed. On an error
// what stood at @path before still does. Throws damaged() for what is wrong in the images.
BuildResult build(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options = {});

}  // namespace dmchain::chain
