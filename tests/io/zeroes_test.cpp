// SPDX-License-Identifier: GPL-2.0-or-later
// Which parts of a buffer are zero.
#include "io/zeroes.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

namespace dmchain::test {

TEST_CASE("each_nonzero") {
    const auto runs = [](const std::string& s) {
        std::string out;
        each_nonzero(
            reinterpret_cast<const unsigned char*>(s.data()), s.size(), 0, 4096,
            [&](std::size_t at, std::size_t n) { out += fmt::format("{}+{} ", at, n); }, [](std::size_t, std::size_t) {});
        return out;
    };
    const std::string zero(4096, '\0'), data = std::string(4095, '\0') + "x";
    CHECK(runs(zero + zero) == "");
    CHECK(runs(data + data) == "0+8192 ");
    CHECK(runs(zero + data + data + zero + data) == "4096+8192 16384+4096 ");
    CHECK(runs(data + zero.substr(0, 512)) == "0+4096 ");
    CHECK(runs(zero + data.substr(4095 - 511)) == "4096+512 ");
    // Grains are those of the file, and what is zero is told grain by grain.
    std::string told;
    const std::string both = zero + data;
    each_nonzero(
        reinterpret_cast<const unsigned char*>(both.data()), both.size(), 1024, 4096,
        [&](std::size_t at, std::size_t n) { told += fmt::format("{}+{} ", at, n); },
        [&](std::size_t at, std::size_t n) { told += fmt::format("zero {}+{} ", at, n); });
    CHECK(told == "zero 0+3072 zero 3072+4096 7168+1024 ");
}

}  // namespace dmchain::test
