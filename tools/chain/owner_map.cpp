// SPDX-License-Identifier: GPL-2.0-or-later
// See owner_map.hpp.
#include "chain/owner_map.hpp"

#include <algorithm>

namespace dmchain::chain {

using qcow2::Kind;

void OwnerMap::push() { frames_.push_back({removed_.size(), added_.size()}); }

void OwnerMap::add(std::uint64_t begin, std::uint64_t end, Kind kind) {
    clear(begin, end);
    const Piece p{end, tops_, static_cast<std::uint32_t>(frames_.size() - 1), kind, false};
    pieces_.emplace(begin, p);
    count(p, end - begin, true);
    // Neighbours are one range, whatever their kinds.
    if (added_.size() > frames_.back().added && added_.back().end == begin)
        added_.back().end = end;
    else
        added_.push_back({begin, end});
}

void OwnerMap::end_at(std::uint64_t begin, std::uint64_t end) {
    if (begin < end) clear(begin, end);
}

OwnerMap::Bytes OwnerMap::pop() {
    const Frame frame = frames_.back();
    Bytes unseen;
    for (std::size_t i = frame.added; i < added_.size(); i++) {
        auto at = pieces_.find(added_[i].begin);
        while (at != pieces_.end() && at->first < added_[i].end) {
            if (!was_seen(at->second)) {
                if (at->second.kind == Kind::data) unseen.plain += at->second.end - at->first;
                if (at->second.kind == Kind::compressed) unseen.compressed += at->second.end - at->first;
            }
            at = pieces_.erase(at);
        }
    }
    for (std::size_t i = removed_.size(); i-- > frame.removed;) put_back(removed_[i].begin, removed_[i].piece);
    added_.resize(frame.added);
    removed_.resize(frame.removed);
    frames_.pop_back();
    return unseen;
}

void OwnerMap::count(const Piece& p, std::uint64_t bytes, bool more) {
    if (p.kind == Kind::zero) return;
    std::uint64_t& of = p.kind == Kind::data ? frames_[p.owner].live.plain : frames_[p.owner].live.compressed;
    of = more ? of + bytes : of - bytes;
}

// Remembers what is there, and takes it away.
void OwnerMap::clear(std::uint64_t begin, std::uint64_t end) {
    auto at = pieces_.upper_bound(begin);
    if (at != pieces_.begin() && std::prev(at)->second.end > begin) --at;
    while (at != pieces_.end() && at->first < end) {
        const std::uint64_t first = std::max(begin, at->first), last = std::min(end, at->second.end);
        Piece part = at->second;
        part.seen = was_seen(part);
        count(part, last - first, false);
        if (at->second.end > end) pieces_.emplace(end, at->second);
        if (at->first < begin) {
            at->second.end = begin;
            ++at;
        } else {
            at = pieces_.erase(at);
        }
        part.end = last;
        removed_.push_back({first, part});
    }
}

// One that was split becomes one again, unless its parts were not seen alike.
void OwnerMap::put_back(std::uint64_t begin, Piece piece) {
    piece.since = tops_;
    count(piece, piece.end - begin, true);
    const auto continues = [&](const Piece& p) {
        return p.owner == piece.owner && p.kind == piece.kind && was_seen(p) == piece.seen;
    };
    auto after = pieces_.lower_bound(begin);
    if (after != pieces_.end() && after->first == piece.end && continues(after->second)) {
        piece.end = after->second.end;
        after = pieces_.erase(after);
    }
    if (after != pieces_.begin()) {
        Piece& before = std::prev(after)->second;
        if (before.end == begin && continues(before)) {
            before.end = piece.end;
            before.since = tops_;
            before.seen = piece.seen;
            return;
        }
    }
    pieces_.emplace_hint(after, begin, piece);
}

}  // namespace dmchain::chain
