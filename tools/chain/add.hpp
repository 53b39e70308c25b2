// SPDX-License-Identifier: GPL-2.0-or-later
// Layers of a chain added to the one below them, in its own file: what is visible of them is copied, and nothing else. What
// that file had in these places no reader of the chain sees; whoever reads the snapshots in between does.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "chain/copy_parts.hpp"
#include "chain/merge.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// Why the layers @upper cannot be added to @lower, which lies below them: "has internal snapshots"; nothing: they can. @upper:
// opened with ChainOptions::depth.
std::optional<std::string> cannot_add_to(const qcow2::Layer& lower, const qcow2::Chain& upper);
// As of merge(), if they can: bytes that are copied, and bytes that the file @lower takes more than before, at the most.
MergeSize measure_add(const qcow2::Layer& lower, const qcow2::Chain& upper);

struct AddTo {
    std::string path;             // of the lower layer, or of a copy of it
    std::string top{};            // the topmost of the upper layers, with all below it
    qcow2::ChainOptions chain{};  // for that
    std::optional<qcow2::Label> label{};
    std::uint64_t rate = 0;  // bytes of data a second, at the most; 0: as fast as it goes
    std::uint64_t request = request_bytes;
    std::function<bool()> stop{};  // asked now and then: whether to stop, so that another call can go on
    std::uint64_t from = 0;        // byte of the disk: what lies before it was added by a call that was cut off
    bool goes_on = false;          // some call before was cut off
    // Called when what lies before byte @at of the disk is durable.
    std::function<void(std::uint64_t at)> durable{};
};
// Durable when this returns. Returns false if it was told to stop.
bool add(const qcow2::Chain& upper, const AddTo& to, const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain::chain
