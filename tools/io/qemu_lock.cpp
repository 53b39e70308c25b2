// SPDX-License-Identifier: GPL-2.0-or-later
// See qemu_lock.hpp. The bytes, and who takes and looks at which, are those of QEMU 2.10 and later (docs/interop, and what
// its programs are seen to do): byte 100 + n is held by who uses permission n, 200 + n by who does not let others have it.
// All are read locks, so that any number of processes can hold one; whether somebody does is asked with F_OFD_GETLK
// for a write lock.
#include "io/qemu_lock.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain {
namespace {

constexpr off_t used = 100, unshared = 200;
constexpr off_t first_byte = used, all_bytes = 200;
enum Permission : off_t { consistent_read = 0, write = 1, resize = 3 };

constexpr auto patience = std::chrono::seconds(5);
constexpr auto pause = std::chrono::milliseconds(100);

struct flock range(short type, off_t start, off_t bytes) {
    struct flock r {};
    r.l_type = type;
    r.l_whence = SEEK_SET;
    r.l_start = start;
    r.l_len = bytes;
    return r;
}

// What of the range others hold, or nullopt: nothing, or locks cannot be had here.
std::optional<struct flock> held(int fd, off_t start, off_t bytes) {
    struct flock r = range(F_WRLCK, start, bytes);
    if (::fcntl(fd, F_OFD_GETLK, &r) != 0 || r.l_type == F_UNLCK) return std::nullopt;
    return r;
}

void release(int fd) {
    struct flock r = range(F_UNLCK, first_byte, all_bytes);
    ::fcntl(fd, F_OFD_SETLK, &r);
}

// Takes @bytes; returns the one that another process holds alone. That a file system has no locks, or no more, is no conflict.
std::optional<off_t> take(int fd, std::initializer_list<off_t> bytes) {
    for (const off_t byte : bytes) {
        struct flock r = range(F_RDLCK, byte, 1);
        if (::fcntl(fd, F_OFD_SETLK, &r) != 0 && (errno == EAGAIN || errno == EACCES)) return byte;
    }
    return std::nullopt;
}

struct Conflict {
    off_t byte;
    long pid;  // 0 or less: the kernel does not say, as for all locks of open files
};

// The first of @bytes that another process holds.
std::optional<Conflict> find(int fd, std::initializer_list<off_t> bytes) {
    if (!held(fd, first_byte, all_bytes)) return std::nullopt;  // the usual case, in one call
    for (const off_t byte : bytes)
        if (const auto r = held(fd, byte, 1)) return Conflict{byte, r->l_pid};
    return std::nullopt;
}

std::optional<Conflict> try_lock(int fd, ImageUse use) {
    const auto read_conflict = [&] { return find(fd, {used + write, used + resize, unshared + consistent_read}); };
    std::optional<off_t> byte;
    if (use == ImageUse::share) {
        take(fd, {used + consistent_read});
        return read_conflict();
    }
    if (use == ImageUse::read)
        byte = take(fd, {used + consistent_read, unshared + write, unshared + resize});
    else
        byte = take(fd, {used + consistent_read, used + write, used + resize, unshared + write, unshared + resize});
    if (byte) {
        const auto r = held(fd, *byte, 1);
        return Conflict{*byte, r ? r->l_pid : 0};
    }
    if (use == ImageUse::read) return read_conflict();
    return find(fd, {used + write, used + resize, unshared + write, unshared + resize, unshared + consistent_read});
}

// Of a folder in /proc; those of processes that end while we look, or that we may not look at, are empty.
std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> out;
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
    while (const dirent* e = dir ? ::readdir(dir.get()) : nullptr)
        if (e->d_name[0] >= '0' && e->d_name[0] <= '9') out.emplace_back(e->d_name);
    return out;
}

// Whether the open file of which @fdinfo tells holds @byte.
bool holds(const std::string& fdinfo, off_t byte) {
    std::ifstream in(fdinfo);
    for (std::string line; std::getline(in, line);) {
        // "lock:	1: OFDLCK ADVISORY  READ -1 fe:00:10952975 100 101", the range inclusive
        std::istringstream words(line);
        std::string label, number, type, mode, access, pid, file, end;
        off_t begin = 0;
        if (!(words >> label >> number >> type >> mode >> access >> pid >> file >> begin >> end) || label != "lock:") continue;
        if (type != "OFDLCK" && type != "POSIX") continue;
        if (begin <= byte && (end == "EOF" || byte <= std::strtoll(end.c_str(), nullptr, 10))) return true;
    }
    return false;
}

// The processes that hold @byte of the file open as @fd, at most @most of them.
std::vector<long> holders_of(int fd, off_t byte, std::size_t most) {
    std::vector<long> out;
    struct stat file {
    }, st{};
    if (::fstat(fd, &file) != 0) return out;
    std::vector<long> pids;
    for (const std::string& name : names_in("/proc")) pids.push_back(std::strtol(name.c_str(), nullptr, 10));
    std::sort(pids.begin(), pids.end());
    for (const long pid : pids) {
        const std::string process = fmt::format("/proc/{}", pid);
        for (const std::string& number : names_in(process + "/fd"))
            if (::stat((process + "/fd/" + number).c_str(), &st) == 0 && st.st_dev == file.st_dev && st.st_ino == file.st_ino &&
                holds(process + "/fdinfo/" + number, byte)) {
                out.push_back(pid);
                if (out.size() == most) return out;
                break;
            }
    }
    return out;
}

// The kernel keeps 15 bytes of a process's name; the command line has the rest of a longer one.
std::string name_of(long pid) {
    std::ifstream in(fmt::format("/proc/{}/comm", pid)), more(fmt::format("/proc/{}/cmdline", pid));
    std::string name, command;
    std::getline(in, name);
    std::getline(more, command, '\0');
    command.erase(0, command.rfind('/') + 1);
    return command.starts_with(name) ? command : name;
}

struct Holder {
    long pid = 0;
    std::string name;
};

Holder holder_of(int fd, const Conflict& c) {
    Holder h;
    if (c.pid > 0)
        h.pid = c.pid;
    else if (const auto seen = holders_of(fd, c.byte, 1); !seen.empty())
        h.pid = seen.front();
    if (h.pid) h.name = name_of(h.pid);
    return h;
}

std::string found(off_t byte, const Holder& h) {
    const std::string who =
        h.pid ? fmt::format("{} (process {})", escaped(h.name), h.pid) : "a process that cannot be seen from here";
    if (byte == used + write || byte == used + resize) return "is open for writing in " + who;
    if (byte == unshared + consistent_read) return "is open in " + who + ", which lets nobody read it";
    if (byte >= unshared) return "is open in " + who + ", which lets nobody write to it";
    return "is locked by " + who;
}

std::string advice(const Holder& h) {
    if (h.name == "dmchain") return "wait until it is done";
    if (h.name == keeper_process) return "it holds the layers of a device that is in use: remove that, or take a snapshot, first";
    if (h.pid) return "stop it first";
    return ::geteuid() != 0 ? "stop it first (root can see which it is)"
                            : "stop it first (it may run on another host, or outside this container)";
}

}  // namespace

std::optional<ImageConflict> lock_image(int fd, ImageUse use) {
    const auto end = std::chrono::steady_clock::now() + patience;
    for (int unseen = 0;;) {
        const std::optional<Conflict> conflict = try_lock(fd, use);
        if (!conflict) return std::nullopt;
        if (use != ImageUse::share) release(fd);  // before looking for the holder: it is not this file
        const Holder holder = holder_of(fd, *conflict);
        // Nobody is to be seen also if it let go while we looked.
        const bool waits =
            use != ImageUse::share && (holder.name == "dmchain" || (holder.name == keeper_process && use == ImageUse::write) ||
                                       (!holder.pid && ++unseen < 5));
        if (!waits || std::chrono::steady_clock::now() >= end)
            return ImageConflict{found(conflict->byte, holder), advice(holder)};
        std::this_thread::sleep_for(pause);
    }
}

bool is_written(int fd) { return find(fd, {used + write, used + resize}).has_value(); }

void require_image_lock(int fd, const std::string& path, ImageUse use) {
    if (const auto conflict = lock_image(fd, use)) throw failed("{}: {}: {}", escaped(path), conflict->found, conflict->advice);
}

std::optional<std::string> find_user(int fd) {
    // Whoever has an image open reads it, and lets nobody resize it, or says so of some other byte.
    const std::optional<Conflict> any = find(fd, {used + consistent_read, used + write, used + resize, unshared + write,
                                                  unshared + resize, unshared + consistent_read});
    if (!any) return std::nullopt;
    const std::vector<long> holders = holders_of(fd, any->byte, 64);
    for (const long pid : holders)
        if (const std::string name = name_of(pid); name != keeper_process)
            return fmt::format("is open in {} (process {})", escaped(name), pid);
    if (!holders.empty()) return std::nullopt;
    return "is open in a process that cannot be seen from here";
}

}  // namespace dmchain
