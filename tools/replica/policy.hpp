// SPDX-License-Identifier: GPL-2.0-or-later
// How many copies of what are kept.
#pragma once

#include <array>
#include <string>

#include "guest/classify.hpp"

namespace dmchain::replica {

struct Policy {
    // Three of what is critical, one of other pages, none of those that are not in use.
    Policy();
    // A file with lines "WORD = COPIES"; WORD is critical, other, disk, or a class, which goes before the first two. "#" starts a
    // comment. Throws failed() for a line that it does not understand.
    explicit Policy(const std::string& path);

    std::array<unsigned, guest::classes> copies;
    unsigned disk = 0;  // of pages that are on the disk, besides the disk
    static constexpr unsigned most = 16;
    unsigned highest() const;
};

}  // namespace dmchain::replica
