// SPDX-License-Identifier: GPL-2.0-or-later
// Layers of devices: made, and sealed.
#pragma once

#include <string>
#include <vector>

#include "device/live.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/seal.hpp"

namespace dmchain::device {

// Refuses @path for a new layer: there is a file, or a device that holds something.
void check_layer_place(const std::string& path);

// Makes the empty layer @path on top of @image, which is given as the user named it. @image's chain is @chain.
void make_layer_on(const std::string& path, const std::string& image, const qcow2::Chain& chain);
// The same on top of the active layer of @device, which is at @active.
void make_layer_on(const std::string& path, const Live& device, const std::string& active);

// How layers are sealed.
struct SealHow {
    bool fill = false;                 // no extended L2 entries
    std::vector<std::string> allow{};  // as in qcow2::ChainOptions
    bool assume_raw = false;
    bool take_over = false;  // also if another machine owns it
    bool dry_run = false;
};
// No device may have it active. On a terminal, with progress.
qcow2::SealResult seal_layer(const std::string& path, const SealHow& how);
// A frozen layer of a live device; tells the target.
qcow2::SealResult seal_frozen(const Live& device, const dm::OpenLayer& layer, const SealHow& how);

}  // namespace dmchain::device
