// SPDX-License-Identifier: GPL-2.0-or-later
// How many copies of what are kept, and how.
#pragma once

#include <array>
#include <string>

#include "guest/classify.hpp"

namespace dmchain::replica {

struct Policy {
    // Three of what is critical, one of other pages, none of those that are not in use.
    Policy();
    // A file with lines "WORD = COPIES"; WORD is critical, other, disk, or a class, which goes before the first two. "#" starts a
    // comment. Also "compress = zstd" or "compress = no". Throws failed() for a line that it does not understand.
    explicit Policy(const std::string& path);

    std::array<unsigned, guest::classes> copies;
    unsigned disk = 0;  // of pages that are on the disk, besides the disk
    bool compress = false;
    static constexpr unsigned most = 16;
    unsigned highest() const;
    // Copies of what nothing goes on without: the state of the devices, layers of disks.
    unsigned critical() const { return copies[static_cast<std::size_t>(guest::Class::device)]; }
};

}  // namespace dmchain::replica
