// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a sealed layer one that can be active again: what its tables say becomes records of a new log. For
// create --in-place.
#pragma once

#include <cstdint>
#include <string>

#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

// Throws failed() unless @header is that of a layer that dm-chain sealed and nobody wrote to since, with clusters of
// 1 << @cluster_bits bytes and units of 1 << @unit_bits.
void require_sealed(const std::string& path, const Header& header, std::uint32_t cluster_bits, std::uint32_t unit_bits);

// The layer is exactly what it was, in use, when this returns; no data is moved. Killed at any point, it is one or the
// other. Throws as require_sealed().
void unseal(const std::string& path, std::uint32_t cluster_bits, std::uint32_t unit_bits);

}  // namespace dmchain::qcow2
