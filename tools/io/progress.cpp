// SPDX-License-Identifier: GPL-2.0-or-later
// See progress.hpp.
#include "io/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace dmchain {

using namespace std::chrono_literals;

// Work that is done at once shows no bar.
Progress::Progress(std::string label, std::uint64_t total)
    : label_(std::move(label)),
      total_(std::max<std::uint64_t>(total, 1)),
      shown_(::isatty(STDERR_FILENO) == 1),
      next_(std::chrono::steady_clock::now() + 500ms) {}

Progress::~Progress() {
    if (shown_) std::fputs("\r\033[K", stderr);
}

void Progress::add(std::uint64_t amount) {
    std::uint64_t done = done_.fetch_add(amount, std::memory_order_relaxed) + amount;
    if (!shown_) return;
    std::unique_lock lock(drawing_, std::try_to_lock);
    if (!lock || std::chrono::steady_clock::now() < next_) return;
    next_ = std::chrono::steady_clock::now() + 100ms;
    draw(done);
}

void Progress::draw(std::uint64_t done) {
    constexpr std::size_t width = 40;
    double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    auto filled = static_cast<std::size_t>(part * width);
    std::string line = fmt::format("\r{} [{}{}] {:3.0f} %\033[K", label_, std::string(filled, '#'),
                                   std::string(width - filled, ' '), part * 100);
    std::fputs(line.c_str(), stderr);
}

}  // namespace dmchain
