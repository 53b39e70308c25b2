// SPDX-License-Identifier: GPL-2.0-or-later
// Active and frozen layers, and the devices that have them: what create, snapshot, seal and remove have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chain/chain_file.hpp"
#include "commands/registry.hpp"
#include "dm/device.hpp"
#include "qcow2/seal.hpp"

namespace dmchain::commands {

// Makes the empty layer @path on top of @image, which is given as the user named it. @image's chain is @chain.
void make_layer_on(const std::string& path, const std::string& image, const qcow2::Chain& chain);

// Refuses @path for a new layer: there is a file, or a device that holds something.
void check_layer_place(const std::string& path);

// A layer that a chain file says is not sealed.
struct Unsealed {
    std::uint16_t id;
    std::string path;
};

// A device that can be written.
struct Live {
    std::string name;
    std::string chain_path;
    std::uint16_t active;  // id; 0: its table is not the live one yet
    std::string active_path;
    std::vector<Unsealed> frozen;  // base first
    std::uint64_t sectors;
    std::uint32_t cluster_bits;  // of its index
    std::uint32_t subblock_bits;
};

// Looks at the device @name, after all that its chain file should say was written there. Throws failed() if it
// has no active layer.
Live look_at_live(const std::string& name);

// How the seal commands do it; @label is what a progress bar says.
struct SealHow {
    bool fill = false;
    std::vector<std::string> allow{};
    bool assume_raw = false;
    bool dry_run = false;
};
void add_seal_options(CLI::App& command, SealHow& how);
qcow2::SealResult seal_layer(const std::string& path, const SealHow& how);

// Seals a frozen layer of a live device and tells the target.
qcow2::SealResult seal_frozen(const Live& device, const Unsealed& layer, const SealHow& how);

// The device that has the layer @path, if there is one. Throws failed() if it is its active layer.
std::optional<std::pair<Live, Unsealed>> device_of_frozen(const std::string& path);

// Layers of a chain file whose device is gone that are not sealed, base first: those that it says, and those that took
// over since.
std::vector<std::string> unsealed_of(const chain::ChainFile& file, const std::vector<std::string>& allow);

}  // namespace dmchain::commands
