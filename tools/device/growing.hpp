// SPDX-License-Identifier: GPL-2.0-or-later
// Layers of a chain that are changed where no reader sees it: who has them is told before and after. And the chain files of a chain at
// rest, which cannot be told, and are built again.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device/subject.hpp"

namespace dmchain::device {

// Of a chain that no device has.
struct AtRest {
    std::vector<std::string> chain_files{};  // that name it
    std::vector<std::string> allow{};        // as in qcow2::ChainOptions, and
    bool assume_raw = false;                 // how the chain is opened

    qcow2::ChainOptions options() const {
        qcow2::ChainOptions o;
        o.allow = allow;
        o.assume_raw = assume_raw;
        return o;
    }
};

// Builds the chain files, if there are any, for what the headers name. @growing: see build_chain_file(); @instead: see
// qcow2::ChainOptions.
void rebuild_chain_files(const Subject& subject, const AtRest& rest, const std::vector<std::string>& growing = {},
                         const std::optional<std::pair<std::string, std::string>>& instead = std::nullopt);

// The sealed layers at @paths are changed from now on (@growing), or what was done to them is durable. Returns when a device, or the
// chain files, say so. Throws failed() if the device has not all of them.
void tell_growing(const Subject& subject, const AtRest& rest, const std::vector<std::string>& paths, bool growing);

}  // namespace dmchain::device
