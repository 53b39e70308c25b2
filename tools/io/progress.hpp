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
    // @total: in the unit that add() counts. For bytes the line says how many a second, too.
    enum class Counts { things, bytes };
    Progress(std::string label, std::uint64_t total, Counts counts = Counts::things);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void add(std::uint64_t amount);
    // So much is done of all; by one thread.
    void reach(std::uint64_t done) { add(done - done_.load(std::memory_order_relaxed)); }

private:
    using Clock = std::chrono::steady_clock;

    void draw(std::uint64_t done, Clock::time_point now);

    const std::string label_;
    const std::uint64_t total_;
    const Counts counts_;
    const bool shown_;
    std::atomic<std::uint64_t> done_{0};
    std::mutex drawing_;  // covers what follows, and the terminal
    Clock::time_point next_;
    Clock::time_point last_{};  // when the line was drawn, and with what
    std::uint64_t last_done_ = 0;
    double rate_ = 0;  // units a second, of late
};

}  // namespace dmchain
