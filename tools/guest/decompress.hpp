// SPDX-License-Identifier: GPL-2.0-or-later
// Takes a compression off, by the program that is made for it.
#pragma once

#include <cstdint>

#include "guest/spool.hpp"
#include "io/file.hpp"

namespace dmchain::guest {

// Appends to @to what '@program -dc' makes of @file from byte @from on. Throws failed() if the program is not there, damaged() if
// it finds the file damaged.
void decompress(const char* program, const File& file, std::uint64_t from, Spool& to);

}  // namespace dmchain::guest
