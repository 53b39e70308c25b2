// SPDX-License-Identifier: GPL-2.0-or-later
// See reflink.hpp.
#include "io/reflink.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/error.hpp"
#include "io/file.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"

namespace dmchain {

bool can_reflink(const std::string& path, const std::string& folder) {
    const File from(path);
    const int fd = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == ENOSPC || errno == EDQUOT)) throw_not_written(escaped(folder), "make a file", errno);
    if (fd < 0) return false;
    const bool can = ::ioctl(fd, FICLONE, from.fd()) == 0;
    ::close(fd);
    return can;
}

void reflink(const std::string& path, const std::string& to) {
    const File from(path);
    const int fd = ::open(to.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_TRUNC, 0644);
    const bool done = fd >= 0 && ::ioctl(fd, FICLONE, from.fd()) == 0 && ::fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0) ::close(fd);
    if (!done) throw_not_written(escaped(to), fmt::format("make it a copy of {}", in_quotes(path)), why);
}

}  // namespace dmchain
