// SPDX-License-Identifier: GPL-2.0-or-later
// The places that keep what is stored: folders on several disks, or pools of a Ceph cluster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "replica/place.hpp"

namespace dmchain::replica {

class Store {
public:
    using Places = std::vector<std::unique_ptr<Place>>;
    // @pools: each keeps copies by itself, and a piece is put into one of them; otherwise it is put into as many as there are to be
    // copies.
    Store(Places places, bool pools) : places_(std::move(places)), pools_(pools) {}

    std::size_t size() const { return places_.size(); }
    Place& operator[](std::size_t i) { return *places_[i]; }
    const Place& operator[](std::size_t i) const { return *places_[i]; }

    // Goes through places.
    template <typename P>
    class Iterator {
    public:
        using difference_type = std::ptrdiff_t;
        using value_type = P;
        using reference = P&;
        using pointer = P*;
        using iterator_category = std::forward_iterator_tag;
        explicit Iterator(Places::const_iterator at) : at_(at) {}
        P& operator*() const { return **at_; }
        Iterator& operator++() {
            ++at_;
            return *this;
        }
        bool operator==(const Iterator&) const = default;

    private:
        Places::const_iterator at_;
    };
    Iterator<Place> begin() { return Iterator<Place>(places_.begin()); }
    Iterator<Place> end() { return Iterator<Place>(places_.end()); }
    Iterator<const Place> begin() const { return Iterator<const Place>(places_.begin()); }
    Iterator<const Place> end() const { return Iterator<const Place>(places_.end()); }

    // The most copies of something that it can keep.
    unsigned most_copies() const;
    // Bits of the places that get a piece of which there are to be so many copies, at most most_copies(): as many folders, or the
    // pool that keeps as many by itself, or the fewest above that. The same for the same piece. @there: places that have it.
    std::uint64_t places_for(const Digest& digest, unsigned copies, std::uint64_t there = 0) const;
    // How many places a piece is in that has so many copies.
    unsigned places_of(unsigned copies) const;

private:
    Places places_;
    bool pools_;
};

// "dir:A,B,C": each path one folder; "rados:A,B": pools (pool.hpp). Throws failed() for what is not written so, for what cannot be
// opened, and for two names of one place.
Store open_store(const std::string& store);
// Whether it is written as a store is.
bool is_store_name(const std::string& what);

}  // namespace dmchain::replica
