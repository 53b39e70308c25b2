// SPDX-License-Identifier: GPL-2.0-or-later
// See room.hpp.
#include "qcow2/room.hpp"

#include <algorithm>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::qcow2 {

void Room::use(std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t first = offset >> cluster_bits_;
    const std::uint64_t end = (offset + bytes + (std::uint64_t{1} << cluster_bits_) - 1) >> cluster_bits_;
    if (used_.size() < end) used_.resize(end);
    std::fill(used_.begin() + static_cast<std::ptrdiff_t>(first), used_.begin() + static_cast<std::ptrdiff_t>(end), true);
}

// The first of @count free clusters in a row within [@from, @to), or @to.
std::uint64_t Room::find(std::uint64_t from, std::uint64_t to, std::uint64_t count) const {
    std::uint64_t run = 0;
    for (std::uint64_t c = from; c < to; c++) {
        if (c >= used_.size()) return c - run + count <= to ? c - run : to;
        run = used_[c] ? 0 : run + 1;
        if (run == count) return c + 1 - count;
    }
    return to;
}

std::uint64_t Room::get(std::uint64_t count) {
    std::uint64_t at = find(next_, most_, count);
    if (at == most_) {
        at = find(0, std::min(most_, next_ + count), count);
        if (at == std::min(most_, next_ + count))
            throw failed("{}: the device has no room for {} of metadata in a row: extend it, and seal again", escaped(name_),
                         human_size(count << cluster_bits_));
    } else {
        next_ = at + count;
    }
    use(at << cluster_bits_, count << cluster_bits_);
    return at << cluster_bits_;
}

void Room::release(std::uint64_t offset, std::uint64_t count) {
    for (std::uint64_t c = offset >> cluster_bits_; count; count--, c++) used_[c] = false;
    while (!used_.empty() && !used_.back()) used_.pop_back();
}

}  // namespace dmchain::qcow2
