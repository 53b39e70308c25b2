// SPDX-License-Identifier: GPL-2.0-or-later
// CRC-32C against the vectors of RFC 3720, B.4, and the two ways to compute it against each other.
#include "io/crc32c.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace {

using dmchain::crc32c_by_table;

void both(const std::vector<std::uint8_t>& data, std::uint32_t expected) {
    CHECK(chain_crc32c_more(0, data.data(), data.size()) == expected);
    CHECK(crc32c_by_table(0, data.data(), data.size()) == expected);
}

}  // namespace

TEST_CASE("crc32c: vectors of RFC 3720") {
    std::vector<std::uint8_t> data(32, 0);
    both(data, 0x8a9136aa);
    data.assign(32, 0xff);
    both(data, 0x62a8ab43);
    std::iota(data.begin(), data.end(), std::uint8_t{0});
    both(data, 0x46dd794e);
    std::iota(data.rbegin(), data.rend(), std::uint8_t{0});
    both(data, 0x113fdb5c);
    both({}, 0);
    both({'1', '2', '3', '4', '5', '6', '7', '8', '9'}, 0xe3069283);
}

TEST_CASE("crc32c: any split and alignment gives the same as the whole, by both ways") {
    std::mt19937 random(1);
    std::vector<std::uint8_t> data(4099);
    for (auto& b : data) b = static_cast<std::uint8_t>(random());
    const std::uint32_t whole = crc32c_by_table(0, data.data(), data.size());
    for (int i = 0; i < 500; i++) {
        std::size_t cut = random() % data.size();
        CHECK(chain_crc32c_more(chain_crc32c_more(0, data.data(), cut), data.data() + cut, data.size() - cut) == whole);
        CHECK(crc32c_by_table(crc32c_by_table(0, data.data(), cut), data.data() + cut, data.size() - cut) == whole);
    }
}
