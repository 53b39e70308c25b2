// SPDX-License-Identifier: GPL-2.0-or-later
// A layer that was made to be the next active one of a device, and that none went on in: what snapshot, create, clone and rollback
// leave that are cut off after they made it. It holds nothing, and nothing of the chain below it knows of it.
#pragma once

#include <optional>
#include <string>

#include "io/file.hpp"
#include "qcow2/header.hpp"

namespace dmchain::device {

// The path of what the image stands on, absolute or as the image's own is; nothing: on nothing. Throws failed() for a name that is
// none of a file.
std::optional<std::string> path_below(const File& image, const qcow2::Header& header);

// Whether the layer is such a one: its log has no block, and one of these is so. The layer it stands on is not sealed, and its log does
// not say that this one took over. Or no device was ever the owner of this one. Or the owner's chain file, which lies beside one of
// the two, has the layer it stands on and goes on in another one. Whether other chain files name it is not looked at.
bool is_spare(const File& layer, const qcow2::Header& header);

// The same, and no command is about to use it: those have it locked (NewLayer in layer.hpp).
bool is_abandoned(const File& layer, const qcow2::Header& header);

}  // namespace dmchain::device
