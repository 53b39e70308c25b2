// SPDX-License-Identifier: GPL-2.0-or-later
// Taking a device back to a snapshot: it goes on in a new layer on that one, and what it had since is left behind as a branch.
#pragma once

#include <string>
#include <vector>

#include "device/images.hpp"
#include "device/layer.hpp"
#include "device/subject.hpp"

namespace dmchain::device {

struct RollbackPlan {
    std::string snapshot;          // path of the layer that the device goes on from
    std::string layer;             // the new one
    std::vector<ChainImage> left;  // layers of the branch that is left behind, lowest first; the last one was active
};

struct RollbackOptions {
    std::string layer{};                  // "": beside the active one, with the next number
    bool drop = false;                    // the branch is removed
    std::vector<std::string> registry{};  // as in plan_compact()
    qcow2::ChainOptions chain{};
};

// Checks all. Throws failed() for what cannot be done. @snapshot: as find_image() knows it.
RollbackPlan plan_rollback(const Subject& subject, const std::string& snapshot, const RollbackOptions& options);
// With the turn held (turn.hpp). The device is away for a moment. Afterwards the branch is sealed, or gone.
void rollback(const Subject& subject, const RollbackPlan& plan, const RollbackOptions& options);

}  // namespace dmchain::device
