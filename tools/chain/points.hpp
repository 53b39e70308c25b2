// SPDX-License-Identifier: GPL-2.0-or-later
// Points in the history of a disk. Each layer but an active one is a snapshot: what the disk held when the layer was frozen. How
// users name one.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::chain {

// What the snapshot is called, and when it was taken, if that was written down.
std::optional<qcow2::Label> label_of(const qcow2::Layer& layer);

// Throws failed() if the layer @path with this label is no snapshot any more.
void require_whole(const std::optional<qcow2::Label>& label, const std::string& path);

// Which layer of the chain, by its number from the base, which is 0: @text is that number, the name of a snapshot, or a path
// that leads to the layer; a name without a slash is also looked for beside the chain's own files. Throws failed() if it is none
// of them, with what there is.
std::size_t find_layer(const qcow2::Chain& chain, const std::string& text);

// The same for the layers' files and labels, base first.
struct Point {
    std::string path;
    Identity identity;
    std::optional<qcow2::Label> label;
};
std::size_t find_point(const std::vector<Point>& points, const std::string& text);

}  // namespace dmchain::chain
