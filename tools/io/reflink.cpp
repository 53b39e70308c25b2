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
#include "io/text.hpp"

namespace dmchain {

bool can_reflink(const std::string& path, const std::string& folder) {
    const File from(path);
    const int fd = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
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
    if (!done) throw failed("{}: cannot make it a copy of {}: {}", escaped(to), in_quotes(path), std::strerror(why));
}

}  // namespace dmchain
