// SPDX-License-Identifier: GPL-2.0-or-later
// The error of a file system, or a quota, that is full. Whoever catches it can give back what was written so far: others may wait for
// that room.
#pragma once

#include <string>

#include "io/error.hpp"

namespace dmchain {

class NoRoom : public Error {
public:
    explicit NoRoom(const std::string& message) : Error(Exit::failed, message) {}
};

// Throws what is to be said when @path, as messages call it, could not be written for the reason @error of errno(3): NoRoom if there is no
// room. @doing: "write 512 bytes at offset 0x1000".
[[noreturn]] void throw_not_written(const std::string& path, const std::string& doing, int error);

}  // namespace dmchain
