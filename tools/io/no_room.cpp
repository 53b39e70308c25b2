// SPDX-License-Identifier: GPL-2.0-or-later
// See no_room.hpp.
#include "io/no_room.hpp"

#include <cerrno>
#include <cstring>

namespace dmchain {

void throw_not_written(const std::string& path, const std::string& doing, int error) {
    static constexpr const char* advice = "make room, and run the same command again";
    if (error == ENOSPC) throw NoRoom(fmt::format("{}: the file system is full: {}", path, advice));
    if (error == EDQUOT) throw NoRoom(fmt::format("{}: the quota is used up: {}", path, advice));
    throw failed("{}: cannot {}: {}", path, doing, std::strerror(error));
}

}  // namespace dmchain
