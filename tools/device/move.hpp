// SPDX-License-Identifier: GPL-2.0-or-later
// One sealed layer of a chain to another place, a disk that is in use or not: a copy takes its place. docs/operations.md has the steps,
// and what a cut between any two of them leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "device/merge_note.hpp"

namespace dmchain::device {

inline const std::string note_ending = ".move";

struct MovePlan {
    KnownFile from;              // the layer
    std::string to;              // absolute; in the making it has ".moving" behind it
    std::string above;           // the layer that stands on it, whose header is to name it
    std::string backing_name{};  // as the copy is to name what it stands on; "": as it does
    std::uint64_t bytes = 0;     // on disk, that are copied
    bool copied = false;         // the copy has its name; what is left to do:
    KnownFile copy{};            // the copy
    AtRest rest{};               // its chain files are rebuilt

    std::string note() const { return to + note_ending; }
    std::string moving() const { return to + ".moving"; }
};

// Whether the file is the note of some move.
bool is_move_note(const std::string& file);
// The move to @to that was cut off; nothing: none was. Throws failed() for a note of something else.
std::optional<MovePlan> read_move(const std::string& to);
// The move of a layer of this chain to @to, or into that folder, that was cut off; nothing: none was.
std::optional<MovePlan> find_move(const Subject& subject, const std::string& to, const qcow2::ChainOptions& options);
// Checks all that can be known before anything is changed. Throws failed() for what cannot be done, naming the file and why. @to: a
// folder, or a file that is not there.
MovePlan plan_move(const Subject& subject, const std::string& layer, const std::string& to,
                   const std::vector<std::string>& registry, const qcow2::ChainOptions& options);

struct MoveOptions {
    std::uint64_t rate = 0;  // of copying, bytes a second; 0: as fast as it goes
    std::function<void(std::uint64_t done, std::uint64_t all)> progress{};
};
// With the turn held (turn.hpp); goes on where one was cut off.
void move_layer(const Subject& subject, MovePlan plan, const MoveOptions& options);
// Takes away what was copied. Throws failed() if the copy may be a layer of the chain already.
void abort_move(const MovePlan& plan);

}  // namespace dmchain::device
