// SPDX-License-Identifier: GPL-2.0-or-later
// The first block of a qcow2 image that dm-chain writes: header, extensions and backing file name, small enough
// to be written at once. For active.hpp and seal.hpp.
#pragma once

#include <string>
#include <vector>

#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

inline constexpr std::size_t header_block = 4096;  // bytes

// Version 3, of an active or a sealed layer. Of @h it takes cluster_bits, size, the tables' places, incompatible
// features, compression, sealed_unit_bits, sealed_id, has_id_room, label_at, label, backing_name and backing_format; @name is what messages call the image. Returns
// header_block bytes. The same layer's headers, active and sealed, differ in their first 512 bytes only: a device writes
// a sector whole or not at all. Throws failed() for a backing file name that is too long for qcow2.
std::vector<unsigned char> header_bytes(const Header& h, const std::string& name);

// What an image at @layer has to say to name the image @backing, both absolute: the bare name, if @relative and they
// are in the same folder, otherwise the absolute one.
std::string backing_name(const std::string& layer, const std::string& backing, bool relative);

}  // namespace dmchain::qcow2
