// SPDX-License-Identifier: GPL-2.0-or-later
// Work that several threads share: parts of it, by number, that they take in turn.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "io/function_ref.hpp"

namespace dmchain {

// Numbers 0 to count - 1, each given once.
class Turns {
public:
    explicit Turns(std::uint64_t count) : count_(count) {}
    // Nothing: there are no more, or some thread has failed.
    std::optional<std::uint64_t> next();
    void stop();
    // For results that are wanted in the order of the parts: calls @use when that of all parts before @turn has returned, one at
    // a time. Not at all once some thread has failed. Every part must come here.
    void in_order(std::uint64_t turn, FunctionRef<void()> use);

private:
    const std::uint64_t count_;
    std::atomic<std::uint64_t> next_ = 0;
    std::atomic<bool> stopped_ = false;
    std::mutex lock_;  // covers used_
    std::condition_variable changed_;
    std::uint64_t used_ = 0;  // parts whose result was used
};

// Calls @work(turns, reports) in @threads threads (0: one for each processor), of which this one is one, the only one that
// @reports; in no more than there are parts. Returns when all are done. What the first of them throws ends the others, and is
// thrown.
void share_out(std::uint64_t count, unsigned threads, const std::function<void(Turns&, bool reports)>& work);

}  // namespace dmchain
