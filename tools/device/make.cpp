// SPDX-License-Identifier: GPL-2.0-or-later
// See make.hpp.
#include "device/make.hpp"

#include <unistd.h>

#include <filesystem>
#include <optional>

#include "device/layer.hpp"
#include "device/start.hpp"

namespace dmchain::device {

chain::ChainFile make_device(const MakeOptions& o) {
    const NewLayer made = make_layer_on(o.layer, o.image, qcow2::Chain(o.image, o.chain));
    bool built = false;
    try {
        qcow2::ChainOptions top = o.chain;
        top.in_use = true;
        top.beneath.push_back(o.image);  // the layer may lie elsewhere
        build_chain_file(qcow2::Chain(o.layer, top), o.chain_file, true, o.replace);
        built = true;
        chain::ChainFile file = open_for_device(o.chain_file);
        start(o.name, file, o.table);
        return file;
    } catch (...) {
        // A device of this name may be another command's: ours is not there if start() failed.
        if (!std::filesystem::is_block_file(o.layer)) ::unlink(o.layer.c_str());
        if (built) ::unlink(o.chain_file.c_str());
        throw;
    }
}

}  // namespace dmchain::device
