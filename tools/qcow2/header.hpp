// SPDX-License-Identifier: GPL-2.0-or-later
// The header of a qcow2 image with its extensions, read and checked. What it names (tables, files)
// is only checked to be well-formed here; image.hpp looks at the tables, chain.hpp at the files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "io/error.hpp"
#include "io/file.hpp"
#include "qcow2/format.hpp"
#include "qcow2/label.hpp"

namespace dmchain::qcow2 {

// Of a layer that dm-chain made: random, given once.
using LayerId = std::array<unsigned char, 16>;

enum class Compression : std::uint8_t { zlib = 0, zstd = 1 };

struct Header {
    std::uint32_t version = 0;
    std::uint32_t cluster_bits = 0;
    std::uint64_t size = 0;  // bytes, as it stands there; QEMU and we use whole sectors of it
    std::uint64_t l1_offset = 0;
    std::uint32_t l1_entries = 0;
    std::uint64_t refcount_table_offset = 0;
    std::uint32_t refcount_table_clusters = 0;
    std::uint32_t refcount_order = 4;
    std::uint32_t snapshots = 0;
    std::uint64_t snapshots_offset = 0;
    std::uint64_t incompatible = 0;
    std::uint64_t compatible = 0;
    std::uint64_t autoclear = 0;
    Compression compression = Compression::zlib;
    // Byte behind the last header extension, and behind the marker of their end if they have one: a backing file name that
    // follows them ends them, too.
    std::uint64_t extensions_end = 0;
    bool has_extension_end = false;
    std::optional<std::string> backing_name;
    std::optional<std::string> backing_format;
    std::optional<std::string> data_file_name;
    std::uint32_t bitmaps = 0;  // 0 also if the bitmaps extension is not valid (autoclear bit 0)
    std::uint64_t bitmap_directory_offset = 0;
    std::uint64_t bitmap_directory_bytes = 0;
    // Sealed by dm-chain, and not written to since: log2 of the unit in which it owns data, bytes.
    std::optional<std::uint32_t> sealed_unit_bits;
    // Where in the file there is room for the label of a snapshot, bytes; and what is there.
    std::optional<std::uint64_t> label_at;
    std::optional<Label> label;
    // The id that its log had. None: sealed before ids were kept.
    std::optional<LayerId> sealed_id;
    bool has_id_room = false;  // its extension has room for an id, active or sealed

    std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits; }
    // Active in dm-chain, or frozen and not sealed: its log alone says what it holds.
    bool in_use() const { return incompatible & incompatible_in_use; }
    bool corrupt() const { return incompatible & incompatible_corrupt; }
    bool dirty() const { return incompatible & incompatible_dirty; }
    bool extended_l2() const { return incompatible & incompatible_extended_l2; }
    bool has_data_file() const { return incompatible & incompatible_data_file; }
    bool data_file_raw() const { return autoclear & autoclear_data_file_raw; }
    std::uint32_t l2_entry_bytes() const { return extended_l2() ? 16 : 8; }
    std::uint64_t l2_entries() const { return cluster_size() / l2_entry_bytes(); }
    // Guest bytes of one L2 table.
    std::uint64_t l2_span() const { return l2_entries() << cluster_bits; }
};

bool has_magic(const File& file);

// Throws damaged() for what contradicts the format, failed() for what is no qcow2 image at all or is well-formed but not
// supported (encryption, unknown features), and for a layer that is in use, unless @allow_in_use. An image that is marked corrupt
// is damaged, unless @allow_corrupt.
Header read_header(const File& file, bool allow_in_use = false, bool allow_corrupt = false);

// The refusal of an image that is marked corrupt.
Error marked_corrupt(const File& file);

// Whether the file is a qcow2 image with the in-use feature.
bool is_in_use(const File& file);

}  // namespace dmchain::qcow2
