// SPDX-License-Identifier: GPL-2.0-or-later
// Devices that there are, and what they have open. All of it is what the target says: chain files and layers may have
// been renamed or removed by somebody since.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dm/device.hpp"

namespace dmchain::device {

struct Live {
    std::string name;
    dm::Status status;
    dm::OpenLayer chain;                // its chain file
    std::vector<dm::OpenLayer> layers;  // base first, data files behind their images

    const dm::OpenLayer* active() const;        // nullptr: it can only be read
    std::vector<dm::OpenLayer> frozen() const;  // that wait for sealing, base first
    std::uint32_t cluster_bits() const;         // of its index
    std::uint32_t subblock_bits() const;
};

// Throws failed() if there is no such device, or it does not answer.
Live look_at(const std::string& name);
// The same; throws failed() also if it has no active layer.
Live look_at_writable(const std::string& name);

// A device, and what of it a file is.
struct Use {
    Live device;
    dm::OpenLayer layer;
};
// Who has the file or block device @who open. A device that does not answer is passed over, with a line.
std::optional<Use> user_of(const Identity& who);

// Whether the layer's file has this path now. "" is no path.
bool leads_to(const std::string& path, const dm::OpenLayer& layer);
// The name that leads to the layer now: the recorded one, or the one that the file has now. "": somebody removed it, and only the
// device has it still.
std::string find_name(const dm::OpenLayer& layer);
bool has_name(const dm::OpenLayer& layer);
// The same; throws failed() if there is none. @device is what the message calls the device.
std::string name_of(const dm::OpenLayer& layer, const std::string& device);

}  // namespace dmchain::device
