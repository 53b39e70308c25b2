// SPDX-License-Identifier: GPL-2.0-or-later
// Stores the layers of a disk at a snapshot: of each, what is different from the layer below it. What a layer says between the same
// two points of a disk never changes, so a layer that is stored is not read again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "qcow2/chain.hpp"
#include "replica/piece_writer.hpp"

namespace dmchain::replica {

// What is to be done for one layer.
struct LayerPlan {
    std::size_t number = 0;  // of the chain
    // If it is stored already, as it is in the folders; otherwise its runs of kind piece have no piece yet.
    Manifest manifest;
    bool stored = false;           // with enough copies
    bool spread = false;           // some folder does not have its manifest
    std::uint64_t data_bytes = 0;  // to be read, if it is not stored
    std::uint64_t free_bytes = 0;  // in the layer, that the guest's file system does not use
};

// Of the layers up to number @point of the chain, base first. No data is read but what file systems say of themselves. Throws failed()
// for a layer that is written to. @progress: layers done more.
std::vector<LayerPlan> plan_layers(const qcow2::Chain& chain, std::size_t point, const Store& places, unsigned copies,
                                   const std::function<void(std::uint64_t)>& progress);

// Of the disk at the topmost of them, pages of 4096 bytes: true for those that are not stored.
std::vector<bool> left_out(const std::vector<LayerPlan>& layers);

// Stores what is not stored. Returns what PieceWriter::finish() wants.
std::vector<Manifest> store_layers(const qcow2::Chain& chain, std::vector<LayerPlan>& layers, unsigned copies,
                                   PieceWriter& pieces);

}  // namespace dmchain::replica
