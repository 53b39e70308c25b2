// SPDX-License-Identifier: GPL-2.0-or-later
// A progress bar on stderr for long work; nothing at all when stderr is no terminal.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace dmchain {

// add() may be called from any thread. The line is erased when the object goes.
class Progress {
public:
    // @total: in the unit that add() counts.
    Progress(std::string label, std::uint64_t total);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void add(std::uint64_t amount);
    // So much is done of all; by one thread.
    void reach(std::uint64_t done) { add(done - done_.load(std::memory_order_relaxed)); }

private:
    void draw(std::uint64_t done);

    const std::string label_;
    const std::uint64_t total_;
    const bool shown_;
    std::atomic<std::uint64_t> done_{0};
    std::mutex drawing_;  // covers next_ and the terminal
    std::chrono::steady_clock::time_point next_;
};

}  // namespace dmchain
