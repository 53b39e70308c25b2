// SPDX-License-Identifier: GPL-2.0-or-later
// Puts the pieces of a snapshot into folders, and, when they are there, the manifests that name them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "replica/store.hpp"

namespace dmchain::replica {

struct Stored {
    std::uint64_t pieces = 0;
    std::uint64_t written_bytes = 0;  // copies that were not there yet, in the files
    std::uint64_t reused_bytes = 0;   // copies that were, uncompressed
};

class PieceWriter {
public:
    // The folders are open for writing. @compress: pieces that get smaller by it. @progress: bytes of copies more, before that.
    PieceWriter(Store& places, bool compress, const std::function<void(std::uint64_t)>& progress)
        : places_(places), compress_(compress), progress_(progress) {}

    // @digest: of @data. @disk: where on the disk the same is. One thread at a time.
    Piece put(const std::vector<unsigned char>& data, const Digest& digest, unsigned copies, std::uint64_t disk = Piece::no_disk);
    // The snapshot is there, durably, when this returns. @layers: of its disk, those that are not stored yet in all folders, base
    // first.
    Stored finish(const Manifest& snapshot, const std::vector<Manifest>& layers);

    Store& places() { return places_; }

private:
    Store& places_;
    const bool compress_;
    const std::function<void(std::uint64_t)>& progress_;
    Stored stored_;
};

// The manifest of a snapshot of now, that has nothing yet.
Manifest new_manifest(const std::string& name, const Store& places);

}  // namespace dmchain::replica
