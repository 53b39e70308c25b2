// SPDX-License-Identifier: GPL-2.0-or-later
// One merge of neighbouring layers, step by step; see compact.hpp for what plans them.
#pragma once

#include <string>
#include <vector>

#include "chain/merge.hpp"
#include "device/compact.hpp"
#include "device/merge_note.hpp"

namespace dmchain::device {

// How the merged file of @range, at @path, names what stands below it: "" for both if nothing does. Throws failed() if it cannot.
struct Below {
    std::string name, format;
};
Below name_below(const qcow2::Chain& range, const std::string& path);

// Does what is left to do of the merge that @note tells of, but for removing the note. @planned: it was planned just now; otherwise
// nullptr, and its layers are opened and measured again if need be. Returns false if it was told to stop.
bool run_merge(const Subject& subject, ChainTurn& turn, MergeNote& note, CompactPlan::Merge* planned,
               const CompactOptions& options);

// The chain files of a chain at rest, which may name the merged file already, name the layers again. Before that file is removed.
void undo_exchange(const Subject& subject, const MergeNote& note);

// Whether the merged file is part of the chain already.
bool is_landed(const Subject& subject, const MergeNote& note);

void remove_file(const std::string& path);  // durable; that it is not there is no error

}  // namespace dmchain::device
