// SPDX-License-Identifier: GPL-2.0-or-later
// Makes the layers of a stored disk again, as a chain of qcow2 files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "replica/piece_reader.hpp"

namespace dmchain::replica {

struct FoundLayers {
    std::vector<Manifest> layers;       // base first
    std::vector<std::string> problems;  // lines: of manifests that are missing or damaged

    std::uint64_t data_bytes() const;
};
// Those of the snapshot. Throws damaged(), naming what is lost, if a manifest has no sound copy, or a piece has none at all: copies are
// looked for, not read.
FoundLayers find_layers(const Manifest& snapshot, const Store& places);

struct LayerFiles {
    std::string top;  // path of the topmost one
    std::uint64_t damaged_copies = 0;
};
// In the new folder @path, each standing on its neighbour there, sealed, with its snapshot's name and id; under another name until
// all is durable. A file that was no qcow2 file gets a name that ends so. Throws failed() if there is something at @path, damaged() as
// PieceReader. @progress: bytes of data more.
LayerFiles restore_layers(const FoundLayers& found, const Store& places, const std::string& path,
                          const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain::replica
