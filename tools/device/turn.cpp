// SPDX-License-Identifier: GPL-2.0-or-later
// See turn.hpp. An flock: of a device's chain file; where there is no device, of the image on top.
#include "device/turn.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "io/text.hpp"

namespace dmchain::device {

namespace {

// "process 4711", that has the file flocked.
std::string holder_of(std::uint64_t inode) {
    // "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"
    std::ifstream locks("/proc/locks");
    const std::string place = fmt::format(":{} ", inode);
    for (std::string line; std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, type, mode, access, pid;
        if (line.find(place) != std::string::npos && words >> number >> type >> mode >> access >> pid && type == "FLOCK")
            return "process " + pid;
    }
    return "another process";
}

int open_locked(const std::string& path, int how, const std::string& name) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
    if (::flock(fd, how | LOCK_NB) == 0) return fd;
    ::close(fd);
    throw failed("{}: {} is changing its layers: wait until it is done", escaped(name), holder_of(identity_of(path).inode));
}

}  // namespace

ChainTurn::ChainTurn(const Subject& subject)
    : fd_(open_locked(subject.device ? subject.device->chain.path : subject.top, LOCK_EX, subject.name)) {}

ChainTurn::~ChainTurn() { ::close(fd_); }

void require_no_turn(const std::string& top) { ::close(open_locked(top, LOCK_SH, top)); }

}  // namespace dmchain::device
