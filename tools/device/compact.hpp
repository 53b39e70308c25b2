// SPDX-License-Identifier: GPL-2.0-or-later
// Merging neighbouring sealed layers of a chain, whether a device has it or not: the plan, and carrying it out.
// docs/operations.md has the steps, and what a cut between any two of them leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chain/merge.hpp"
#include "device/images.hpp"
#include "device/merge_note.hpp"
#include "device/turn.hpp"

namespace dmchain::device {

// Images first..last of a chain, by their number from the base, which is 0.
struct Range {
    std::size_t first;
    std::size_t last;
};

// What is to go. One of these is given; each text is an image as find_image() knows it.
struct Selection {
    std::optional<std::pair<std::string, std::string>> range{};  // these become one
    std::vector<std::string> remove{};                           // these snapshots are deleted: each is merged into the one above
    std::optional<std::vector<std::string>> keep{};              // all others are deleted
    std::optional<std::int64_t> older_than{};                    // those frozen before, seconds since 1970
    bool flatten = false;                                        // all that is sealed becomes one
    std::size_t max_layers = 0;                                  // not 0: so many are left
    bool into_base = false;                                      // all that is sealed is added to the base

    std::optional<Way> way{};  // how; nothing: whatever is best
    bool keep_old = false;     // see CompactOptions
};

struct CompactPlan {
    struct Merge {
        Range range;
        Way way = Way::new_file;
        chain::MergeSize size{};
        std::uint64_t freed = 0;  // bytes on disk of the files that go
        // The layers whose data are copied, held open from the plan to the end of the copy.
        std::shared_ptr<const qcow2::Chain> layers{};
    };
    struct Skipped {
        std::size_t number;
        std::string why;  // "is a block device: ..."
    };
    std::vector<ChainImage> images;
    std::vector<Merge> merges;            // the topmost first: so the numbers of the others stay
    std::vector<Skipped> skipped;         // that were selected, but have to stay
    AtRest rest{};                        // its chain files are rebuilt
    std::vector<std::string> registry{};  // folders where others may name the layers
    std::uint64_t copied = 0, freed = 0;  // bytes of all merges
    std::uint64_t peak = 0;               // of extra space while they run, at the most

    std::size_t layers_left() const;
};

// Checks all that can be known before anything is changed; no merge of the chain may be cut off. Throws failed() for what cannot
// be done, naming the layer and why. What a selection by age, number, or of what to keep cannot have is skipped instead.
// @registry: folders where others may name the layers, besides the layers' own.
CompactPlan plan_compact(const Subject& subject, const Selection& selection, const std::vector<std::string>& registry,
                         const qcow2::ChainOptions& options);

// About how many seconds the copying takes, as copying a sample says. @rate: as in CompactOptions. Nothing: that cannot be said.
std::optional<double> copy_seconds(const CompactPlan& plan, std::uint64_t rate);

struct CompactOptions {
    bool keep_old = false;         // the files that were replaced stay: that of the topmost with ".old" behind its name
    bool verify = false;           // what was copied is read again, and compared
    std::uint64_t rate = 0;        // of copying, bytes a second; 0: as fast as it goes
    std::function<bool()> stop{};  // asked now and then: whether to stop copying, for this time
    std::function<void(std::uint64_t done, std::uint64_t all)> progress{};  // bytes copied, of one merge
};
// Returns when the merged files have taken the place of the layers and these are gone; false: when it
// was told to stop, and the same command can go on. What @plan holds open is let go.
bool compact(const Subject& subject, ChainTurn& turn, CompactPlan& plan, const CompactOptions& options);

enum class Resumed { nothing, done, stopped };
// Goes on with merges of the chain that were cut off, if there are any, to their end.
Resumed resume_compact(const Subject& subject, ChainTurn& turn, const qcow2::ChainOptions& chain, const CompactOptions& options);
// Takes away what a merge that was cut off left, and those that were to follow it. Returns whether there was something. Throws failed()
// if the merged file is part of the chain already: then it can only go on. With the turn held.
bool abort_compact(const Subject& subject, const qcow2::ChainOptions& chain);

}  // namespace dmchain::device
