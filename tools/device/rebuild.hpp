// SPDX-License-Identifier: GPL-2.0-or-later
// The chain file of a device that can be written, from its layers alone: after a crash, or when it was lost.
#pragma once

#include <string>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::device {

struct RebuildOptions {
    std::string path{};  // of the chain file; "": beside the layer on top, with the name of its device
    qcow2::ChainOptions chain{};
    bool take_over = false;  // also if another machine owns the active layer
    bool dry_run = false;
};

struct Rebuilt {
    std::string path;                 // of the chain file, absolute
    std::string active;               // path of the active layer
    std::vector<std::string> passed;  // layers that led to it, from the one that was named
    std::uint64_t bytes = 0;          // of the virtual disk
    std::uint64_t layers = 0;
    std::uint64_t log_blocks = 0;       // of the active layer
    std::uint64_t active_clusters = 0;  // that it defines
};

// @top: the layer that was active last, or one that it took over from. Throws failed() for a chain that a device has.
Rebuilt rebuild(const std::string& top, const RebuildOptions& options);

}  // namespace dmchain::device
