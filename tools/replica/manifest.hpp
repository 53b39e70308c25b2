// SPDX-License-Identifier: GPL-2.0-or-later
// What a stored snapshot, or a stored layer of a disk, consists of: docs/format.md, "Stored snapshots".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "guest/classify.hpp"
#include "qcow2/label.hpp"
#include "replica/digest.hpp"

namespace dmchain::replica {

inline constexpr std::uint32_t most_piece = 1u << 20;  // bytes
inline constexpr std::size_t most_folders = 64;

// Bytes that are stored, and found, as one.
struct Piece {
    static constexpr std::uint64_t no_disk = ~std::uint64_t{0};

    Digest digest{};
    std::uint64_t folders = 0;     // a bit for each that got a copy
    std::uint64_t disk = no_disk;  // byte of the disk where the same is
    std::uint32_t bytes = 0;       // 1 to most_piece
};

// Pages that follow each other, with one source; or other bytes, before or after the pages.
struct Run {
    enum class Kind : std::uint8_t { zero = 0, unused = 1, piece = 2, head = 3, tail = 4 };

    Kind kind = Kind::zero;
    guest::Class class_of = guest::Class::unknown;
    std::uint32_t block = 0;
    std::uint64_t page = 0;   // of the block, the first one; of head and tail in mapped-ram the byte of the file
    std::uint64_t pages = 0;  // 0 for head and tail
    std::uint32_t piece = 0;
    std::uint32_t at = 0;  // page of the piece
};

// Adds a run to those before it: goes on in the last one if it can.
void append(std::vector<Run>& runs, const Run& run);

struct Disk {
    std::string snapshot;  // path of the layer that is the snapshot
    std::string id;        // of the snapshot
};

// What is different at a point of a disk from the point below. Its manifest has one block of memory, the disk, whose last page may be
// cut off; pages in no run are as they were below.
struct DiskLayer {
    std::string id;           // of the point (chain/point_id.hpp)
    std::string below;        // of the point below; "": there is none
    std::uint64_t bytes = 0;  // of the disk at the point
    std::string file;         // name of the layer's file, without its folder
    std::optional<qcow2::Label> label{};

    // Of the manifest. Between two points there is always the same difference.
    std::string name() const { return id + "-" + (below.empty() ? "0" : below); }
};

struct Manifest {
    std::string name;
    std::uint64_t created = 0;  // seconds since 1970
    std::string machine, kernel;
    guest::Form form = guest::Form::stream;
    std::uint32_t ram_section = 0;  // of a stream
    struct Block {
        std::string name;
        std::uint64_t bytes = 0;
        std::uint64_t pages_at = 0, bitmap_at = 0;  // of mapped-ram, bytes of the file
    };
    std::vector<Block> blocks;
    std::vector<std::string> folders;  // paths when it was stored
    std::optional<Disk> disk;
    std::vector<std::string> layers;  // of a snapshot: names of those of its disk, if they are stored, too; base first
    std::optional<DiskLayer> layer;   // of a layer
    std::vector<Piece> pieces;
    std::vector<Run> runs;  // head, then blocks and pages ascending, then tail

    // Whether it is a snapshot that has memory.
    bool has_memory() const { return !layer && !blocks.empty(); }
    // Of each piece: whether it has nothing but clean cache that the guest can read again (guest/forget.hpp).
    std::vector<bool> cache_pieces() const;

    std::vector<unsigned char> pack() const;
    // @from: what messages call it. Throws damaged() for anything that pack() would not have made, failed() for another version.
    static Manifest unpack(const std::vector<unsigned char>& bytes, const std::string& from);
};

}  // namespace dmchain::replica
