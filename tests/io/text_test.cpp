// SPDX-License-Identifier: GPL-2.0-or-later
// Names in messages stay on one line and cannot steer a terminal.
#include "io/text.hpp"

#include <doctest/doctest.h>

using dmchain::escaped;
using dmchain::human_size;
using dmchain::human_time;
using dmchain::in_quotes;
using namespace std::string_literals;

TEST_CASE("text: plain names and UTF-8 pass, everything that steers is spelled out") {
    CHECK(escaped("/srv/vm 1/top.qcow2") == "/srv/vm 1/top.qcow2");
    CHECK(escaped("größe-磁盘") == "größe-磁盘");
    CHECK(escaped("a\nb\tc") == "a\\nb\\tc");
    CHECK(escaped("\x1b[2J\r"s) == "\\x1b[2J\\x0d");
    CHECK(escaped("nul\0x"s) == "nul\\x00x");
    CHECK(escaped("it's \\") == "it\\'s \\\\");
    CHECK(escaped("\xff\xfe") == "\\xff\\xfe");
    CHECK(escaped("\xc3") == "\\xc3");                    // cut short
    CHECK(escaped("\xc0\xaf") == "\\xc0\\xaf");           // overlong
    CHECK(escaped("\xc2\x9b") == "\\xc2\\x9b");           // C1 control: CSI
    CHECK(escaped("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
    CHECK(escaped("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // surrogate
    CHECK(escaped(std::string(5000, 'a')) == std::string(1024, 'a') + "...");
    CHECK(in_quotes("x'y") == "'x\\'y'");
}

TEST_CASE("times are rounded up") {
    CHECK(human_time(0) == "0 s");
    CHECK(human_time(11.2) == "12 s");
    CHECK(human_time(59.5) == "1 min");
    CHECK(human_time(61) == "2 min");
    CHECK(human_time(3600) == "1 h");
    CHECK(human_time(7800) == "2 h 10 min");
    CHECK(human_time(86400 + 3 * 3600) == "1 d 3 h");
    CHECK(human_time(-1) == "0 s");
}

TEST_CASE("text: sizes") {
    CHECK(human_size(0) == "0 bytes");
    CHECK(human_size(1023) == "1023 bytes");
    CHECK(human_size(65536) == "64 KiB");
    CHECK(human_size(1536u << 20) == "1.5 GiB");
    CHECK(human_size(std::uint64_t{64} << 40) == "64 TiB");
    CHECK(human_size(~std::uint64_t{0}) == "16.0 EiB");
}
