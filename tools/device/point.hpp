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

// Opens the chain of @subject to look at it, with all that was written to its device up to now, if the state of now (@live) is
// asked for. The device itself is no reason to refuse its layers.
qcow2::Chain open_to_look(const Subject& subject, qcow2::ChainOptions options, bool live);

}  // namespace dmchain::device
