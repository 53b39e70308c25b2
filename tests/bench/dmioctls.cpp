// SPDX-License-Identifier: GPL-2.0-or-later
// Preloaded into a program: appends to the file $DMCHAIN_IOCTLS a line "NUMBER MICROSECONDS" for each ioctl that the program
// makes of device-mapper. So the benchmark of snapshots, clones and rollbacks knows the kernel's part in a command.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
    std::va_list rest;
    va_start(rest, request);
    void* argument = va_arg(rest, void*);
    va_end(rest);
    const auto start = std::chrono::steady_clock::now();
    const int result = static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
    const char* path = std::getenv("DMCHAIN_IOCTLS");
    if (_IOC_TYPE(request) == DM_IOCTL && path) {
        const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
        char line[64];
        const int bytes = std::snprintf(line, sizeof line, "%u %.0f\n", static_cast<unsigned>(_IOC_NR(request)), took.count());
        const int to = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (to < 0 || ::write(to, line, static_cast<std::size_t>(bytes)) != bytes) std::abort();
        ::close(to);
    }
    return result;
}
