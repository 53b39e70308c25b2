// SPDX-License-Identifier: GPL-2.0-or-later
// What create, activate and table have in common: from a path to a sound chain file and a device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "chain/chain_file.hpp"
#include "commands/registry.hpp"

namespace dmchain::commands {

// Where the chain file of an image goes unless told otherwise: beside it, @name.chain.
std::string chain_file_beside(const std::string& image, const std::string& name);

// Refuses @path for a chain file to be written: one that no table line can say, or where something else stands; and, unless
// it is to be @recovered, a chain file whose active layer is not sealed: nothing else says which layer is on top.
void check_chain_file_place(const std::string& path, bool recovered = false);

// Builds the chain file @path of the image, with progress on a terminal; the caller has done check_chain_file_place(). @active: the
// image, which must be in use, is the active layer.
void build_chain_file(const ImageOptions& image, const std::string& path, bool active = false);
void build_chain_file(const qcow2::Chain& chain, const std::string& path, bool active = false);

// The refusal of a disk of 0 bytes.
Error empty_disk(const std::string& path);

// Opens the chain file @path, compares its layers with what lies there now, and refuses a disk of 0 bytes, and layers that
// another process has open for writing.
chain::ChainFile open_for_device(const std::string& path);

// "--index-cache BYTES", into @bytes.
void add_cache_option(CLI::App& command, std::optional<std::uint64_t>& bytes);

// Makes the device /dev/mapper/@name from the chain file, and says so.
void create_device(const std::string& name, const chain::ChainFile& file, std::optional<std::uint64_t> index_cache, bool json);

}  // namespace dmchain::commands
