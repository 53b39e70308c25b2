// SPDX-License-Identifier: GPL-2.0-or-later
// Points in the history of what a command works on: see chain/points.hpp for how users name them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "chain/points.hpp"
#include "device/subject.hpp"

namespace dmchain::device {

// The number of the layer that is the snapshot @text. Throws failed() if there is none, or it is the active layer.
std::size_t find_snapshot(const qcow2::Chain& chain, const std::string& text);
// The same; without @text the state of now: the topmost layer.
std::size_t find_point(const qcow2::Chain& chain, const std::optional<std::string>& text);

// Whether what the layer holds may still change.
bool is_active(const qcow2::Layer& layer);

}  // namespace dmchain::device
