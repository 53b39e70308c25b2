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

    // Where a fault is among others of its kind: a file that was cut short has as many as it lacks clusters, which are one
    // line.
    struct Spot {
        const char* of;              // what @at counts, as in "up to disk offset 0x1000"
        std::uint64_t at;            // this fault
        std::uint64_t next;          // a neighbour above it
        const char* kind = nullptr;  // a literal; if the text alone does not say it
    };

    // A fault, or neighbours.
    struct Line {
        const char* kind;
        std::string first;
        std::uint64_t faults;
        Spot last;

        std::string text() const {
            if (faults == 1) return first;
            return fmt::format("{} (and {} more like it, up to {} {:#x})", first, faults - 1, last.of, last.at);
        }
    };

    // One line: file, place, found, expected. In stop mode throws damaged() with it. Faults with the same text but for what is
    // filled in are of one kind.
    template <typename... Args>
    void add(fmt::format_string<Args...> text, Args&&... args) {
        add(Spot{"", 0, 0}, text, std::forward<Args>(args)...);
    }
    template <typename... Args>
    void add(const Spot& spot, fmt::format_string<Args...> text, Args&&... args) {
        count_++;
        if (mode_ == Mode::stop) throw damaged(text, std::forward<Args>(args)...);
        const fmt::string_view format = text;
        const char* kind = spot.kind ? spot.kind : format.data();
        if (is_open_ && lines_.back().kind == kind && lines_.back().last.next == spot.at && spot.next != 0) {
            lines_.back().faults++;
            lines_.back().last = spot;
            return;
        }
        is_open_ = lines_.size() < most_lines;
        if (is_open_)
            lines_.push_back({kind, fmt::format(text, std::forward<Args>(args)...), 1, spot});
        else
            not_listed_++;
    }

    // What comes is of another file: no neighbour of what was there.
    void next_file() { is_open_ = false; }

    // Adds what another set has collected.
    void take(Faults&& other) {
        count_ += other.count_;
        not_listed_ += other.not_listed_;
        is_open_ = false;
        for (Line& line : other.lines_) {
            if (lines_.size() < most_lines_of_all)
                lines_.push_back(std::move(line));
            else
                not_listed_ += line.faults;
        }
        other = Faults(other.mode_);
    }

    Mode mode() const { return mode_; }
    std::uint64_t count() const { return count_; }
    const std::vector<Line>& lines() const { return lines_; }
    std::uint64_t not_listed() const { return not_listed_; }  // faults that no line tells

private:
    // Whatever the images are like, memory stays bounded.
    static constexpr std::size_t most_lines = 10000;
    static constexpr std::size_t most_lines_of_all = 100000;

    Mode mode_;
    std::uint64_t count_ = 0;
    std::uint64_t not_listed_ = 0;
    std::vector<Line> lines_;
    bool is_open_ = false;  // a neighbour of the last line may come
};

}  // namespace dmchain::qcow2
