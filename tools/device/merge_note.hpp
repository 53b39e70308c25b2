// SPDX-License-Identifier: GPL-2.0-or-later
// The note of a merge, beside the topmost layer of its range: what is merged, by identity, and how far it is. Whoever comes after a
// cut finds it, and goes on.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "device/growing.hpp"
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
void to_json(nlohmann::json& j, const KnownFile& k);
void from_json(const nlohmann::json& j, KnownFile& k);
// Its keys stand among the note's own. Older versions wrote fewer.
void to_json(nlohmann::json& j, const AtRest& r);
void from_json(const nlohmann::json& j, AtRest& r);

// How layers become one.
enum class Way {
    new_file,  // what is visible of them is copied into a file
    compress,  // the same, and compressed: one that is cut off begins again
    reflink,   // the same, but the file shares blocks with theirs, as far as it can (xfs, btrfs)
    in_place,  // the upper ones are added to the lowest itself
};
const char* name_of(Way way);  // "new-file"

struct MergeNote {
    std::string path;            // of the merged file in the end
    std::vector<KnownFile> old;  // base first; the last one has that path
    Way way = Way::new_file;
    bool adding = false;      // in place: the lowest layer is not what it was
    std::uint64_t added = 0;  // in place: what lies before this byte of the disk is added
    bool copied = false;
    KnownFile merged{};                   // once it is copied
    bool unsharing = false;               // nothing is left to do but to tell the file system that it shares no blocks any more
    AtRest rest{};                        // its chain files are rebuilt
    std::vector<std::string> registry{};  // folders where others may name the layers
    struct Next {
        std::vector<KnownFile> old;
        Way way = Way::new_file;
    };
    std::vector<Next> then{};  // what the same command merges after this

    std::string file() const { return path + ".compact"; }
    // In place: a second note, beside the lowest layer, which has another name until the end. It leads to the first one.
    std::string pointer() const { return way == Way::in_place ? old.front().path + ".compact" : ""; }
    // The merged file until it has its name.
    std::string unnamed() const { return way == Way::in_place ? old.front().path : merging(); }
    std::string merging() const { return path + ".merging"; }              // the file that is copied into, if there is one
    std::string merging_chain() const { return path + ".merging.chain"; }  // its index, for the target
};

void write_note(const MergeNote& note);  // durable when this returns
void remove_note(const MergeNote& note);
// Whether the paths are one name in one folder, whatever that is called.
bool is_same_name(const std::string& a, const std::string& b);
// Whether the file is the note of some merge.
bool is_note(const std::string& file);
// Of the layer at @path, if there is one. Throws failed() if it is no note.
std::optional<MergeNote> read_note(const std::string& path);
// Throws failed() for a layer to which others are being added in place, or that is being added so: the state it held is gone.
void require_settled(const std::string& layer);
// Of the chain, base first; those that are files.
std::vector<std::string> layer_paths(const Subject& subject, const qcow2::ChainOptions& options);
// Those of merges of the chain that were cut off, the ones to go on with first.
std::vector<MergeNote> find_notes(const Subject& subject, const qcow2::ChainOptions& options);
// Throws failed() if there are some.
void require_no_merge(const Subject& subject, const qcow2::ChainOptions& options);

}  // namespace dmchain::device
