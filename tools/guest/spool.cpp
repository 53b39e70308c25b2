// SPDX-License-Identifier: GPL-2.0-or-later
// See spool.hpp.
#include "guest/spool.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "io/error.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain::guest {

namespace {

constexpr std::uint64_t step = 16u << 20;    // bytes between looks at the room
constexpr std::uint64_t spared = 64u << 20;  // that others may need meanwhile

std::string folder() {
    const char* const named = std::getenv("TMPDIR");
    return named && *named ? named : "/var/tmp";
}

}  // namespace

Spool::Spool(std::string name) : name_(std::move(name)), folder_(folder()) {
    fd_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd_ < 0)
        throw failed("{}: cannot make a file for what comes from {}: {}; name another folder with TMPDIR", escaped(folder_),
                     escaped(name_), std::strerror(errno));
}

Spool::~Spool() {
    if (fd_ >= 0) ::close(fd_);
}

void Spool::append(const void* data, std::size_t bytes) {
    const auto no_room = [this] {
        return NoRoom(
            fmt::format("{}: has no room for the memory from {}, of which {} are there: name another folder with TMPDIR",
                        escaped(folder_), escaped(name_), human_size(bytes_)));
    };
    if (bytes_ + bytes > checked_) {
        struct statvfs now {};
        if (::fstatvfs(fd_, &now) == 0 && now.f_bavail * std::uint64_t{now.f_frsize} < bytes + step + spared) throw no_room();
        checked_ = bytes_ + bytes + step;
    }
    if (write_all(fd_, data, bytes, bytes_) < bytes) {
        if (errno == ENOSPC || errno == EDQUOT) throw no_room();
        throw failed("{}: cannot write what comes from {}: {}", escaped(folder_), escaped(name_), std::strerror(errno));
    }
    bytes_ += bytes;
}

void Spool::append_from(int fd) {
    std::vector<unsigned char> buffer(1u << 20);
    for (;;) {
        const ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw failed("{}: cannot read: {}", escaped(name_), std::strerror(errno));
        if (n == 0) return;
        append(buffer.data(), static_cast<std::size_t>(n));
    }
}

File Spool::finish() { return {std::exchange(fd_, -1), name_}; }

}  // namespace dmchain::guest
