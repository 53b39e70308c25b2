// SPDX-License-Identifier: GPL-2.0-or-later
// Words for people: names that come from files, made safe for a line and a terminal, and sizes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dmchain {

// @name with control bytes, backslashes, quotes and invalid UTF-8 as \n, \\, \' or \xNN, so that it
// stays on one line and cannot steer a terminal. At most 1024 bytes of it; "..." marks the rest.
std::string escaped(std::string_view name);

// The same between single quotes.
std::string in_quotes(std::string_view name);

// "64 KiB", "1.5 GiB", "0 bytes": at most one decimal, exact when it says no decimal.
std::string human_size(std::uint64_t bytes);
// "12 s", "3 min", "2 h 10 min", "4 d 3 h": rounded up.
std::string human_time(double seconds);
// "1 layer", "2 layers"; @things: of what has no such plural.
std::string counted(std::uint64_t n, const char* thing, const char* things = nullptr);

}  // namespace dmchain
