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

struct LayerTable {
    std::vector<chain_layer> records;
    std::string strings;
    std::vector<LayerIds> ids;

    LayerTable() = default;
    explicit LayerTable(const qcow2::Chain& chain);
    // Records and strings as they stand in the file.
    std::vector<std::byte> bytes() const;

private:
    void add(const File& file, const qcow2::Layer& layer, std::uint16_t owner);
};

}  // namespace dmchain::chain
