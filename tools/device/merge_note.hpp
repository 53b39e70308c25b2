// SPDX-License-Identifier: GPL-2.0-or-later
// The note of a merge, beside the topmost layer of its range: what is merged, by identity, and how far it is. Whoever comes after a
// cut finds it, and goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/images.hpp"

namespace dmchain::device {

// A file as it was when the plan was made: it is only ever taken away if it is that one still.
struct KnownFile {
    std::string path;
    std::uint64_t inode = 0, bytes = 0;
    std::int64_t mtime_sec = 0;
    std::uint32_t mtime_nsec = 0;

    bool is(const Identity& who) const;
    bool is_there() const;  // under its path
};
KnownFile known_file(const std::string& path);

struct MergeNote {
    std::string path;            // of the merged file in the end
    std::vector<KnownFile> old;  // base first; the last one has that path
    bool copied = false;
    KnownFile merged{};                          // once it is copied
    std::vector<std::string> chain_files{};      // of a chain at rest, that are rebuilt
    std::vector<std::string> allow{};            // as in qcow2::ChainOptions, for that
    std::vector<std::vector<KnownFile>> then{};  // what the same command merges after this, each as `old`

    std::string file() const { return path + ".compact"; }
    std::string merging() const { return path + ".merging"; }              // the merged file until it has its name
    std::string merging_chain() const { return path + ".merging.chain"; }  // its index, for the target
};

void write_note(const MergeNote& note);  // durable when this returns
// Whether the file is the note of some merge.
bool is_note(const std::string& file);
// Of the layer at @path, if there is one. Throws failed() if it is no note.
std::optional<MergeNote> read_note(const std::string& path);
// Those of merges of the chain that were cut off, the ones to go on with first.
std::vector<MergeNote> find_notes(const Subject& subject, const qcow2::ChainOptions& options);

}  // namespace dmchain::device
