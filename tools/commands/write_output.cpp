// SPDX-License-Identifier: GPL-2.0-or-later
// See write_output.hpp.
#include "commands/write_output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain::commands {

void write_output(const std::string& path, std::string_view text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) throw failed("{}: cannot create: {}", escaped(path), std::strerror(errno));
    const bool done = write_all(fd, text.data(), text.size(), 0) == text.size();
    const int why = errno;
    ::close(fd);
    if (!done) throw failed("{}: cannot write: {}", escaped(path), std::strerror(why));
}

}  // namespace dmchain::commands
