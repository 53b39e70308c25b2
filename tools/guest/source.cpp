// SPDX-License-Identifier: GPL-2.0-or-later
// See source.hpp.
#include "guest/source.hpp"

#include <algorithm>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

Source::Source(File file) : name_(file.path()) {
    const std::uint64_t bytes = file.size();
    add(hold(std::move(file)), 0, bytes);
}

std::size_t Source::hold(File file) {
    files_.push_back(std::move(file));
    return files_.size() - 1;
}

void Source::add(std::size_t file, std::uint64_t at, std::uint64_t bytes) {
    if (!bytes) return;
    bool goes_on = false;
    if (!parts_.empty()) {
        const Part& last = parts_.back();
        goes_on = last.file == file && (file == none || last.at + (size_ - last.begin) == at);
    }
    if (!goes_on) parts_.push_back({size_, file, at});
    size_ += bytes;
}

void Source::read(void* to, std::size_t bytes, std::uint64_t offset) const {
    if (offset > size_ || bytes > size_ - offset)
        throw damaged("{}: ends at byte {}, expected {} bytes at byte {}", escaped(name_), size_, bytes, offset);
    auto* out = static_cast<unsigned char*>(to);
    auto part =
        std::upper_bound(parts_.begin(), parts_.end(), offset, [](std::uint64_t at, const Part& p) { return at < p.begin; });
    while (bytes) {
        const Part& p = *std::prev(part);
        const std::uint64_t end = part == parts_.end() ? size_ : part->begin;
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, end - offset));
        if (p.file == none)
            std::memset(out, 0, n);
        else
            files_[p.file].read(out, n, p.at + (offset - p.begin));
        out += n;
        offset += n;
        bytes -= n;
        if (bytes) ++part;
    }
}

}  // namespace dmchain::guest
