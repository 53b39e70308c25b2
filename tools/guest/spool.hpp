// SPDX-License-Identifier: GPL-2.0-or-later
// A file without a name for what comes from a pipe, in the folder that the environment variable TMPDIR names, or in /var/tmp:
// memory is large, and /tmp often is memory itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "io/file.hpp"

namespace dmchain::guest {

class Spool {
public:
    // @name: what messages call its content.
    explicit Spool(std::string name);
    ~Spool();
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    // Goes on behind what is there. Throws NoRoom before the file system is full.
    void append(const void* data, std::size_t bytes);
    // The same with all that comes from @fd until it ends.
    void append_from(int fd);
    // What was written. Nothing more can be.
    File finish();

private:
    std::string name_, folder_;
    int fd_;
    std::uint64_t bytes_ = 0, checked_ = 0;  // checked: up to there, there was room
};

}  // namespace dmchain::guest
