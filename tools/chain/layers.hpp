// SPDX-License-Identifier: GPL-2.0-or-later
// The layer table of a chain file, made from an open chain.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chain/format.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// Ids in the index, for each layer of the chain, base first.
struct LayerIds {
    std::uint16_t image;  // zero and compressed clusters
    std::uint16_t data;   // plain data: the data file's, or the image's own
};

// CRC-32C of the first 4096 bytes of the file, or of all, if it has fewer: head_crc of a record.
std::uint32_t head_crc(const File& file);

// CRC-32C of the id of the LVM volume that it is: volume of a record; 0: it is none.
std::uint32_t volume_of(const Identity& who);

struct LayerTable {
    std::vector<chain_layer> records;
    std::string strings;
    std::vector<LayerIds> ids;
    std::uint32_t home = 0;        // byte of the chain file's own path in the strings
    std::uint16_t home_bytes = 0;  // 0: not noted

    LayerTable() = default;
    explicit LayerTable(const qcow2::Chain& chain);
    // Records and strings as they stand in the file.
    std::vector<std::byte> bytes() const;
    // The record @r gets @path, which goes to the strings. Throws failed() for one that is too long.
    void name(chain_layer& r, const std::string& path);
    // Where the chain file itself is.
    void name_home(const std::string& path);

private:
    void add(const File& file, const qcow2::Layer& layer, std::uint16_t owner);
};

}  // namespace dmchain::chain
