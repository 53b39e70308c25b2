// SPDX-License-Identifier: GPL-2.0-or-later
// What is wrong with an image: thrown at the first fault (whoever builds on the image), or collected
// (dmchain check). Passed to everything that reads qcow2 metadata.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/error.hpp"

namespace dmchain::qcow2 {

class Faults {
public:
    enum class Mode { stop, collect };
    explicit Faults(Mode mode = Mode::stop) : mode_(mode) {}

    // One line: file, place, found, expected. In stop mode throws damaged() with it.
    template <typename... Args>
    void add(fmt::format_string<Args...> text, Args&&... args) {
        count_++;
        if (mode_ == Mode::stop) throw damaged(text, std::forward<Args>(args)...);
        if (messages_.size() < most_) messages_.push_back(fmt::format(text, std::forward<Args>(args)...));
    }

    // Adds what another set has collected.
    void take(const Faults& other) {
        count_ += other.count_;
        for (const std::string& m : other.messages_)
            if (messages_.size() < most_) messages_.push_back(m);
    }

    std::uint64_t count() const { return count_; }
    const std::vector<std::string>& messages() const { return messages_; }  // the first 1000

private:
    static constexpr std::size_t most_ = 1000;
    Mode mode_;
    std::uint64_t count_ = 0;
    std::vector<std::string> messages_;
};

}  // namespace dmchain::qcow2
