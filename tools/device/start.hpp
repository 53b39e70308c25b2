// SPDX-License-Identifier: GPL-2.0-or-later
// From images or a chain file to a device: what create, index, activate, table and recover have in common.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "chain/chain_file.hpp"
#include "chain/places.hpp"
#include "dm/device.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::device {

// Where the chain file of a device goes unless told otherwise: beside its image, with the device's name.
std::string default_chain_file(const std::string& image, const std::string& name);
// The name of a device of @path (an image or a chain file) unless told otherwise: the file's name without its ending.
std::string default_name(const std::string& path);

// Refuses @path for a chain file to be written: where something else stands, or one that a device uses; and, unless it is
// to be @recovered, a chain file whose active layer is not sealed: nothing else says which layer is on top. Returns whether
// there is one, to be replaced.
bool check_chain_file_place(const std::string& path, bool recovered = false);

// Builds the chain file @path of the chain, on a terminal with progress; the caller has done check_chain_file_place().
// @active: the layer on top, which must be in use, is the active one. Throws failed() if there is one now and not to @replace.
// @growing: paths of sealed layers that are changed from now on where no reader sees it, as the chain file is to say.
void build_chain_file(const qcow2::Chain& chain, const std::string& path, bool active, bool replace,
                      const std::vector<std::string>& growing = {});

// The refusal of a disk of 0 bytes.
Error empty_disk(const std::string& path);

struct StartOptions {
    chain::Which which = chain::Which::ask;
    bool take_over = false;  // of an active layer that another machine owns
};
// Opens the chain file @path for a device to be made of it: finds its layers, compares them with what they were, sees to
// it that nobody else has them and that this machine may write, and writes down where they are if it was moved or copied.
// Throws failed() for the first that is not right, and for a disk of 0 bytes.
chain::ChainFile open_for_device(const std::string& path, const StartOptions& options = {});

// Makes the device /dev/mapper/@name of the chain file.
void start(const std::string& name, const chain::ChainFile& file, const dm::TableOptions& options);

}  // namespace dmchain::device
