// SPDX-License-Identifier: GPL-2.0-or-later
// Who else refers to the layers of a chain: other images and chain files in some folders, and other devices of this machine. What
// somebody else refers to is never changed or removed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chain/chain_file.hpp"
#include "device/growing.hpp"
#include "device/images.hpp"

namespace dmchain::device {

class Shared {
public:
    // Looks at the images' own folders, and at @registry with all that is below. Throws failed() for a folder that cannot be read.
    Shared(const Subject& subject, const std::vector<ChainImage>& images, const std::vector<std::string>& registry);

    // Why image @number has to stay as it is: "/vm/b.qcow2 stands on it, too"; nothing: nobody else refers to it.
    const std::optional<std::string>& why(std::size_t number) const { return why_[number]; }
    // Chain files of this very chain, if no device has it: they name what is merged, and have to be rebuilt. @options: as the chain
    // was opened.
    AtRest at_rest(const qcow2::ChainOptions& options) const {
        return {subject_.device ? std::vector<std::string>() : own_, options.allow, options.assume_raw};
    }

private:
    // Image @number and all below it.
    void refer(std::size_t number, const std::string& who);
    void look_at_folder(const std::string& folder, bool deep);
    void look_at_file(const std::string& path);
    void look_at_chain_file(const File& file);
    void look_at_devices();
    std::optional<std::size_t> find(const Identity& who) const;
    std::optional<std::size_t> find_layer(const chain::ChainFile& file, const chain_layer& layer) const;

    const Subject& subject_;
    const std::vector<ChainImage>& images_;
    std::vector<std::optional<std::string>> why_;
    std::vector<std::string> own_;
};

}  // namespace dmchain::device
