// SPDX-License-Identifier: GPL-2.0-or-later
// The map of owners against a plain model: trees of layers at random, what each top sees, and what none does.
#include "chain/owner_map.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace dmchain::chain {
namespace {

using qcow2::Kind;

constexpr int disk = 64;
constexpr Kind kinds[] = {Kind::zero, Kind::data, Kind::compressed};

// What is at each byte of the disk: a height and a kind, or nobody.
struct Cell {
    int owner = -1;
    Kind kind = Kind::zero;
};
using Disk = std::vector<Cell>;
using Mark = std::vector<char>;

class Trees {
public:
    explicit Trees(unsigned seed) : random_(seed) {}

    // A layer on @below, with some above it; returns for each height the bytes that tops saw.
    void layer(const Disk& below, std::vector<Mark>& seen) {
        Disk now = below;
        const int height = static_cast<int>(map_.height());
        Mark own(disk);
        map_.push();
        if (chance(4)) {
            const int at = number(disk);
            map_.end_at(static_cast<std::uint64_t>(at), disk);
            for (int i = at; i < disk; i++) now[static_cast<std::size_t>(i)] = {};
        }
        std::uint64_t stored = 0;
        for (int at = number(8); at < disk; at += number(12) + 1) {
            const int end = std::min(disk, at + 1 + number(8));
            const Kind kind = kinds[number(3)];
            map_.add(static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(end), kind);
            for (int i = at; i < end; i++) {
                now[static_cast<std::size_t>(i)] = {height, kind};
                own[static_cast<std::size_t>(i)] = kind != Kind::zero;
                stored += kind != Kind::zero;
            }
            at = end - 1;
        }
        seen.emplace_back(disk);
        const int children = height > 5 ? 0 : number(4);
        for (int c = 0; c < children; c++) layer(now, seen);
        if (children == 0 || chance(5)) top(now, seen);
        std::uint64_t unseen = 0;
        for (std::size_t i = 0; i < disk; i++) unseen += own[i] && !seen.back()[i];
        const OwnerMap::Bytes is = map_.pop();
        CHECK(is.plain + is.compressed == unseen);
        CHECK(unseen <= stored);
        seen.pop_back();
        layers++;
    }
    bool is_empty() const { return map_.size() == 0; }
    int layers = 0;

private:
    void top(const Disk& now, std::vector<Mark>& seen) {
        std::vector<OwnerMap::Bytes> live(map_.height());
        for (std::size_t i = 0; i < disk; i++) {
            if (now[i].owner < 0) continue;
            const auto h = static_cast<std::size_t>(now[i].owner);
            seen[h][i] = 1;
            live[h].plain += now[i].kind == Kind::data;
            live[h].compressed += now[i].kind == Kind::compressed;
        }
        map_.seen();
        for (std::size_t h = 0; h < live.size(); h++) {
            CHECK(map_.live(h).plain == live[h].plain);
            CHECK(map_.live(h).compressed == live[h].compressed);
        }
    }
    int number(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }
    bool chance(int of) { return number(of) == 0; }

    std::mt19937 random_;
    OwnerMap map_;
};

}  // namespace

TEST_CASE("owner map: what tops see of layers, and what none sees, as by a plain model") {
    int layers = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        CAPTURE(seed);
        Trees trees(seed);
        std::vector<Mark> seen;
        trees.layer(Disk(disk), seen);
        REQUIRE(trees.is_empty());
        layers += trees.layers;
    }
    CHECK(layers > 2000);
}

TEST_CASE("owner map: a base under many chains does not fall to pieces") {
    OwnerMap map;
    map.push();
    map.add(0, 1 << 20, Kind::data);
    for (std::uint64_t i = 0; i < 1000; i++) {
        map.push();
        for (std::uint64_t at = i % 7; at < 1 << 20; at += 4096) map.add(at, at + 512, Kind::data);
        map.seen();
        map.pop();
    }
    // Those that are hidden under all of them were not seen; the rest is one again between them.
    CHECK(map.size() < 1000);
    CHECK(map.live(0).plain == 1 << 20);
}

}  // namespace dmchain::chain
