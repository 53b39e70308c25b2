// SPDX-License-Identifier: GPL-2.0-or-later
// A device with a new active layer on top of an image that is sealed: for create, clone and rollback.
#pragma once

#include <string>

#include "chain/chain_file.hpp"
#include "dm/device.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::device {

struct MakeOptions {
    std::string name;        // of the device
    std::string image;       // that the layer stands on, as the user named it
    std::string layer;       // absolute; was checked by check_layer_place()
    std::string chain_file;  // absolute; was checked by check_chain_file_place()
    bool replace = false;    // what that returned
    qcow2::ChainOptions chain{};
    dm::TableOptions table{};
};

// Makes the layer, the chain file and the device. What was made before something goes wrong goes.
chain::ChainFile make_device(const MakeOptions& options);

}  // namespace dmchain::device
