// SPDX-License-Identifier: GPL-2.0-or-later
// See turn.hpp. An flock: of a device's chain file; where there is no device, of the image on top.
#include "device/turn.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

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
    for (;;) {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
        if (::flock(fd, how | LOCK_NB) != 0) {
            ::close(fd);
            throw failed("{}: {} is changing its layers: wait until it is done", escaped(name),
                         holder_of(identity_of(path).inode));
        }
        // Another file may have got the name between the two.
        struct stat locked {
        }, named{};
        if (::fstat(fd, &locked) == 0 && ::stat(path.c_str(), &named) == 0 && locked.st_dev == named.st_dev &&
            locked.st_ino == named.st_ino)
            return fd;
        ::close(fd);
    }
}

}  // namespace

ChainTurn::ChainTurn(const Subject& subject)
    : name_(subject.name), fd_(open_locked(subject.device ? subject.device->chain.path : subject.top, LOCK_EX, name_)) {}

ChainTurn::~ChainTurn() { ::close(fd_); }

void ChainTurn::carry_over(const std::string& path, FunctionRef<void()> rename) {
    const int fd = open_locked(path, LOCK_EX, name_);
    try {
        rename();
    } catch (...) {
        ::close(fd);
        throw;
    }
    ::close(std::exchange(fd_, fd));
}

void require_no_turn(const std::string& top) { ::close(open_locked(top, LOCK_SH, top)); }

}  // namespace dmchain::device
