// SPDX-License-Identifier: GPL-2.0-or-later
// Copies no faster than so many bytes a second.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace dmchain {

class Pace {
public:
    // @rate: bytes a second, from now on; 0: as fast as it goes.
    explicit Pace(std::uint64_t rate) : rate_(rate) {}

    // So many more are copied: waits until they may be. Any thread.
    void add(std::uint64_t bytes) {
        const std::uint64_t copied = copied_ += bytes;
        if (rate_)
            std::this_thread::sleep_until(begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                                                       static_cast<double>(copied) / static_cast<double>(rate_))));
    }

private:
    using Clock = std::chrono::steady_clock;
    const std::uint64_t rate_;
    const Clock::time_point begin_ = Clock::now();
    std::atomic<std::uint64_t> copied_ = 0;  // bytes
};

}  // namespace dmchain
