// SPDX-License-Identifier: GPL-2.0-or-later
// Reads a source forwards, once. Numbers are big-endian, as in QEMU's streams.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "guest/source.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

class Cursor {
public:
    Cursor(const Source& source, std::uint64_t at) : source_(source), buffer_(1u << 20), begin_(at) {}

    std::uint64_t at() const { return begin_ + next_; }
    bool ended() const { return at() >= source_.size(); }
    // Goes on at byte @at.
    void seek(std::uint64_t at) {
        begin_ = at;
        next_ = end_ = 0;
    }

    // The next @bytes, at most 64 KiB, until the next call. Throws damaged() if the source ends before.
    const unsigned char* take(std::size_t bytes) {
        if (end_ - next_ < bytes) fill(bytes);
        const unsigned char* const p = &buffer_[next_];
        next_ += bytes;
        return p;
    }
    std::uint64_t number(unsigned bytes) {
        const unsigned char* const p = take(bytes);
        std::uint64_t n = 0;
        for (unsigned i = 0; i < bytes; i++) n = n << 8 | p[i];
        return n;
    }
    std::uint8_t byte() { return *take(1); }
    std::string text(std::size_t bytes) {
        const unsigned char* const p = take(bytes);
        return {p, p + bytes};
    }

private:
    void fill(std::size_t bytes) {
        std::memmove(buffer_.data(), &buffer_[next_], end_ - next_);
        begin_ += next_;
        end_ -= next_;
        next_ = 0;
        const std::uint64_t from = begin_ + end_;
        const std::uint64_t there = source_.size() > from ? source_.size() - from : 0;
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size() - end_, there));
        if (end_ + n < bytes)
            throw damaged("{}: was cut off: ends at byte {}, expected {} more at byte {}", escaped(source_.name()), from + n,
                          bytes, begin_);
        source_.read(&buffer_[end_], n, from);
        end_ += n;
    }

    const Source& source_;
    std::vector<unsigned char> buffer_;
    std::uint64_t begin_;  // of the buffer, in the source
    std::size_t next_ = 0, end_ = 0;
};

}  // namespace dmchain::guest
