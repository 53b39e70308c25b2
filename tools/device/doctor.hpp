// SPDX-License-Identifier: GPL-2.0-or-later
// What devices need of this machine, looked at before it is needed: the kernel, its modules, limits, configuration, room.
// Changes nothing, and loads nothing. For doctor.
#pragma once

#include <string>
#include <vector>

namespace dmchain::device {

enum class Level { ok, warning, wrong };
const char* name_of(Level level);

struct Finding {
    std::string subject;
    Level level = Level::ok;
    std::string found;
    std::string advice{};  // what to do; "" if nothing is
};

// @chains: images or chain files; what they need is looked at, too. @root: where proc, sys, dev, run and lib are, for tests.
std::vector<Finding> examine(const std::vector<std::string>& chains, const std::string& root = "");

}  // namespace dmchain::device
