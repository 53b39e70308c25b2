// SPDX-License-Identifier: GPL-2.0-or-later
// Applies a stream (stream.hpp) to a copy of the disk. Beside the copy lies a note that says which snapshot it holds, so that a
// stream is only applied where it belongs.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "chain/stream.hpp"

namespace dmchain::chain {

// The note of the copy at @target, if the user names no other file.
std::string note_of_import(const std::string& target);

struct ImportHow {
    std::string note;    // path of the note
    bool force = false;  // whatever the copy holds, and though a file is there already
    bool dry_run = false;
    // Bytes of data more.
    std::function<void(std::uint64_t)> progress;
};

struct Imported {
    std::uint64_t data_bytes = 0, zero_bytes = 0;
    bool resumed = false;  // the import before was cut off
    bool held = false;     // the target held the snapshot already: nothing was written
};

// @stream: its header has been read, and no record. Throws failed(), with nothing changed, if the stream does not belong to what
// @target, a raw file or a block device, holds. One that leads to what it holds already is read to its end, and that is all. The copy
// is durable when this returns; if it is cut off the note says so, and the same import can be run again.
Imported import(StreamReader& stream, const std::string& target, const ImportHow& how);

}  // namespace dmchain::chain
