// SPDX-License-Identifier: GPL-2.0-or-later
// See turns.hpp.
#include "io/turns.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace dmchain {

std::optional<std::uint64_t> Turns::next() {
    if (stopped_) return std::nullopt;
    const std::uint64_t turn = next_.fetch_add(1);
    return turn < count_ ? std::optional(turn) : std::nullopt;
}

void Turns::stop() {
    {
        const std::lock_guard hold(lock_);
        stopped_ = true;
    }
    changed_.notify_all();
}

void Turns::in_order(std::uint64_t turn, FunctionRef<void()> use) {
    std::unique_lock hold(lock_);
    changed_.wait(hold, [&] { return used_ == turn || stopped_; });
    if (stopped_) return;
    // Nobody else can have this turn.
    hold.unlock();
    use();
    hold.lock();
    used_++;
    hold.unlock();
    changed_.notify_all();
}

void share_out(std::uint64_t count, unsigned threads, const std::function<void(Turns&, bool)>& work) {
    Turns turns(count);
    std::mutex lock;  // covers error
    std::exception_ptr error;
    const auto guarded = [&](bool reports) {
        try {
            work(turns, reports);
        } catch (...) {
            turns.stop();
            const std::lock_guard hold(lock);
            if (!error) error = std::current_exception();
        }
    };
    if (!threads) threads = std::max(1u, std::thread::hardware_concurrency());
    {
        std::vector<std::jthread> others;
        for (std::uint64_t i = 1; i < std::min<std::uint64_t>(threads, count); i++) others.emplace_back(guarded, false);
        guarded(true);
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace dmchain
