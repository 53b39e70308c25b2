// SPDX-License-Identifier: GPL-2.0-or-later
// See progress.hpp.
#include "io/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "io/text.hpp"

namespace dmchain {

using namespace std::chrono_literals;

// Work that is done at once shows no bar.
Progress::Progress(std::string label, std::uint64_t total, Counts counts)
    : label_(std::move(label)),
      total_(std::max<std::uint64_t>(total, 1)),
      counts_(counts),
      shown_(::isatty(STDERR_FILENO) == 1),
      next_(Clock::now() + 500ms) {}

Progress::~Progress() {
    if (shown_) std::fputs("\r\033[K", stderr);
}

void Progress::add(std::uint64_t amount) {
    std::uint64_t done = done_.fetch_add(amount, std::memory_order_relaxed) + amount;
    if (!shown_) return;
    std::unique_lock lock(drawing_, std::try_to_lock);
    const auto now = Clock::now();
    if (!lock || now < next_) return;
    next_ = now + 100ms;
    draw(done, now);
}

void Progress::draw(std::uint64_t done, Clock::time_point now) {
    constexpr std::size_t width = 40;
    double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    auto filled = static_cast<std::size_t>(part * width);
    std::string line =
        fmt::format("\r{} [{}{}] {:3.0f} %", label_, std::string(filled, '#'), std::string(width - filled, ' '), part * 100);
    // What was there already when the work began counts for the part that is done, but not for how fast it goes.
    if (last_ != Clock::time_point{}) {
        const double each = static_cast<double>(done - last_done_) / std::chrono::duration<double>(now - last_).count();
        rate_ = rate_ > 0 ? rate_ * 0.9 + each * 0.1 : each;
        if (counts_ == Counts::bytes) line += fmt::format("  {}/s", human_size(static_cast<std::uint64_t>(rate_)));
        if (rate_ > 0) line += fmt::format("  {} left", human_time(static_cast<double>(total_ - std::min(done, total_)) / rate_));
    }
    last_ = now;
    last_done_ = done;
    std::fputs((line + "\033[K").c_str(), stderr);
}

}  // namespace dmchain
