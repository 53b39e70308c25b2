// SPDX-License-Identifier: GPL-2.0-or-later
// The label of a snapshot: when it was taken, and what the user calls it. It lies in the header of the layer, as an extension
// that QEMU passes over, in a sector of its own: writing it is done or not done, never half. docs/format.md, "Labels".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "io/file.hpp"

namespace dmchain::qcow2 {

struct Label {
    std::int64_t time = 0;  // seconds since 1970, UTC, when the layer was frozen
    std::string name{};     // "": none
    std::string note{};
    // 'compact --prune' gave back what other snapshots do not need of it: it is a layer, and no snapshot any more.
    bool pruned = false;
};

inline constexpr std::size_t label_sector = 512;  // bytes
inline constexpr std::size_t max_label_name = 63;
inline constexpr std::size_t max_label_note = 400;

// Throws Exit::usage for a name that cannot be told from a number or a path, or is too long, and for a note that is too long.
void check_label(const Label& label);

// The sector. No label: all zeroes.
std::array<unsigned char, label_sector> label_bytes(const std::optional<Label>& label);
// The way back. What is no sound label is none: nothing of the disk depends on it.
std::optional<Label> parse_label(const unsigned char* sector);

// Writes the label of the frozen layer @path, which nobody writes to; durable when this returns. Throws failed() if it has no
// room for one.
void write_label(const std::string& path, const Label& label);

}  // namespace dmchain::qcow2
