// SPDX-License-Identifier: GPL-2.0-or-later
// Work that several threads share: parts of it, by number, that they take in turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

namespace dmchain {

// Numbers 0 to count - 1, each given once.
class Turns {
public:
    explicit Turns(std::uint64_t count) : count_(count) {}
    // Nothing: there are no more, or some thread has failed.
    std::optional<std::uint64_t> next();
    void stop() { stopped_ = true; }

private:
    const std::uint64_t count_;
    std::atomic<std::uint64_t> next_ = 0;
    std::atomic<bool> stopped_ = false;
};

// Calls @work(turns, reports) in @threads threads (0: one for each processor), of which this one is one, the only one that
// @reports; in no more than there are parts. Returns when all are done. What the first of them throws ends the others, and is
// thrown.
void share_out(std::uint64_t count, unsigned threads, const std::function<void(Turns&, bool reports)>& work);

}  // namespace dmchain
