// SPDX-License-Identifier: GPL-2.0-or-later
// Repeatable random numbers: the same seed gives the same chain on every machine and library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace gen {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
class Prng {
public:
    explicit Prng(u64 seed) : state_(seed) {}
    u64 next() {
        state_ += 0x9e3779b97f4a7c15;
        u64 z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    u64 below(u64 n) { return n ? next() % n : 0; }
    u64 between(u64 low, u64 high) { return low + below(high - low + 1); }
    bool chance(unsigned percent) { return below(100) < percent; }
    template <typename T>
    void shuffle(std::vector<T>& v) {
        for (std::size_t i = v.size(); i > 1; i--) {
            std::swap(v[i - 1], v[below(i)]);
        }
    }

private:
    u64 state_;
};

// Fills `to` with data that no other key has at any place: a cluster read from the wrong place shows.
inline void fill_random(std::span<u8> to, u64 key) {
    Prng random(key * 0xd1342543de82ef95 + 1);
    std::size_t i = 0;
    for (; i + 8 <= to.size(); i += 8) {
        const u64 v = random.next();
        std::memcpy(&to[i], &v, 8);
    }
    for (; i < to.size(); i++) to[i] = static_cast<u8>(random.next());
}

}  // namespace gen
