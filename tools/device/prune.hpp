// SPDX-License-Identifier: GPL-2.0-or-later
// Gives back what lies in lower layers of a chain and no snapshot that is kept shows any more, without merging. The layers stay;
// they are no snapshots of their own from then on, and their labels say so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/compact.hpp"

namespace dmchain::device {

struct PrunePlan {
    struct Layer {
        std::size_t number;
        std::uint64_t freed = 0;  // bytes on disk
    };
    std::vector<ChainImage> images;
    std::vector<Layer> layers;                  // that become no snapshots, lowest first
    std::vector<CompactPlan::Skipped> skipped;  // that stay as they are
    std::vector<bool> points;                   // by layer, up to the topmost sealed one: it stays a snapshot
    AtRest rest{};                              // its chain files are rebuilt
    std::uint64_t freed = 0;                    // bytes on disk, of all
};

// @keep: snapshots that stay, besides the topmost sealed one; see find_image(). Throws failed() for what cannot be done.
PrunePlan plan_prune(const Subject& subject, const std::vector<std::string>& keep, const std::vector<std::string>& registry,
                     const qcow2::ChainOptions& options);
// With the turn held (turn.hpp). Cut off anywhere, the same call again goes on.
void prune(const Subject& subject, const PrunePlan& plan);

}  // namespace dmchain::device
