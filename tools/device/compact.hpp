// SPDX-License-Identifier: GPL-2.0-or-later
// Merging neighbouring sealed layers of a device that is in use: the plan, and carrying it out. docs/operations.md has the
// steps, and what a cut between any two of them leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "chain/merge.hpp"
#include "device/live.hpp"

namespace dmchain::device {

// Layers first..last of a device, by their place from the base, which is 0; data files are not counted.
struct Range {
    std::size_t first;
    std::size_t last;
};

struct CompactOptions {
    bool keep_old = false;  // the files that were replaced stay: that of the topmost with ".old" behind its name
    std::function<void(std::uint64_t done, std::uint64_t all)> progress;
};

struct CompactPlan {
    std::string device;
    std::vector<dm::OpenLayer> layers;  // that are merged, base first
    std::string path;                   // of the merged file in the end: that of the topmost layer
    chain::MergeSize size;
    std::uint64_t freed = 0;  // bytes on disk of the files that go
    std::size_t depth = 0;    // layers of the device now
};

// Whose turn it is to change the layers of the device: throws failed(), naming the process, if another one is at it. Kept as
// long as this object lives; ends with the process.
class CompactTurn {
public:
    explicit CompactTurn(const Live& device);
    ~CompactTurn();
    CompactTurn(const CompactTurn&) = delete;
    CompactTurn& operator=(const CompactTurn&) = delete;

private:
    int fd_;
};

// Checks all that can be known before anything is changed. Throws failed() for what cannot be merged, naming the layer.
CompactPlan plan_compact(const Live& device, const Range& range);
// With the turn held. Returns when the merged file has taken the place of the layers and these are gone.
void compact(const CompactPlan& plan, const CompactOptions& options);

// Whether a merge of the device was cut off. If so, goes on with it to its end. With the turn held.
bool resume_compact(const Live& device, const CompactOptions& options);
// Takes away what a merge that was cut off left. Returns whether there was something. Throws failed() if the merged file is
// part of the device already: then it can only go on.
bool abort_compact(const Live& device);

}  // namespace dmchain::device
