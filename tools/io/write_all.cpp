// SPDX-License-Identifier: GPL-2.0-or-later
// See write_all.hpp.
#include "io/write_all.hpp"

#include <unistd.h>

#include <cerrno>

namespace dmchain {

std::size_t write_all(int fd, const void* data, std::size_t bytes, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < bytes) {
        const ssize_t n = ::pwrite(fd, static_cast<const char*>(data) + done, bytes - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) break;
        done += static_cast<std::size_t>(n);
    }
    return done;
}

}  // namespace dmchain
