// SPDX-License-Identifier: GPL-2.0-or-later
// Which layer of a chain owns each part of the disk, while a tree of chains is gone through from its base: layers are laid
// on and taken off again. Every step costs what the layer at hand says, not what is below: a base that a thousand chains
// share is read, and laid down, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "qcow2/extent.hpp"

namespace dmchain::chain {

class OwnerMap {
public:
    // Bytes of the disk whose data a layer stores, by how.
    struct Bytes {
        std::uint64_t plain = 0;
        std::uint64_t compressed = 0;
    };

    // Lays a layer on top of what is there. Its extents follow, ascending.
    void push();
    void add(std::uint64_t begin, std::uint64_t end, qcow2::Kind kind);
    // The layer ends what is below it: from @begin on nothing is seen any more.
    void end_at(std::uint64_t begin, std::uint64_t end);

    // What is seen now is what the top of some chain sees.
    void seen() { tops_++; }
    // What is seen of the layer at this height; the base's is 0.
    const Bytes& live(std::size_t height) const { return frames_[height].live; }
    std::size_t height() const { return frames_.size(); }

    // Takes the topmost layer off; returns what of it no top has seen since it was laid on.
    Bytes pop();

    // What is remembered: pieces, of some 100 bytes each.
    std::size_t size() const { return pieces_.size() + removed_.size() + added_.size(); }

private:
    struct Piece {
        std::uint64_t end;
        std::uint64_t since;  // how many tops there had been when it came into the map
        std::uint32_t owner;  // height of the layer
        qcow2::Kind kind;
        bool seen;  // before that
    };
    using Pieces = std::map<std::uint64_t, Piece>;  // by first byte; they do not overlap
    struct Removed {
        std::uint64_t begin;
        Piece piece;
    };
    struct Range {
        std::uint64_t begin;
        std::uint64_t end;
    };
    struct Frame {
        std::size_t removed;  // where its parts of the lists begin
        std::size_t added;
        Bytes live{};
    };

    bool was_seen(const Piece& p) const { return p.seen || tops_ > p.since; }
    void clear(std::uint64_t begin, std::uint64_t end);
    void put_back(std::uint64_t begin, Piece piece);
    void count(const Piece& p, std::uint64_t bytes, bool more);

    Pieces pieces_;
    std::vector<Frame> frames_;     // of the layers, base first
    std::vector<Removed> removed_;  // what they hide, to be put back
    std::vector<Range> added_;      // what they have
    std::uint64_t tops_ = 0;
};

}  // namespace dmchain::chain
