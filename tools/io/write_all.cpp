// SPDX-License-Identifier: GPL-2.0-or-later
// See write_all.hpp.
#include "io/write_all.hpp"

#include <unistd.h>

#include <cerrno>

namespace dmchain {

namespace {

// @once(data, bytes, done) writes some of the bytes, of which @done are written.
template <typename Once>
std::size_t loop(const void* data, std::size_t bytes, const Once& once) {
    std::size_t done = 0;
    while (done < bytes) {
        const ssize_t n = once(static_cast<const char*>(data) + done, bytes - done, done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) break;
        done += static_cast<std::size_t>(n);
    }
    return done;
}

}  // namespace

std::size_t write_all(int fd, const void* data, std::size_t bytes, std::uint64_t offset) {
    return loop(data, bytes, [&](const char* from, std::size_t n, std::size_t done) {
        return ::pwrite(fd, from, n, static_cast<off_t>(offset + done));
    });
}

std::size_t write_all(int fd, const void* data, std::size_t bytes) {
    return loop(data, bytes, [&](const char* from, std::size_t n, std::size_t) { return ::write(fd, from, n); });
}

}  // namespace dmchain
