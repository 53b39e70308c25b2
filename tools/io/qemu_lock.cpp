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
#include <map>
#include <memory>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>
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

struct LockedByte {
    int fd;
    off_t byte;
};

// Calls @use(number of the lock, process) for each process that holds one of @locks, until it returns false. Goes through all open
// files of all processes, once: a chain has many files, and so have those that use it.
template <typename Use>
void each_holder(const std::vector<LockedByte>& locks, const Use& use) {
    struct stat st {};
    std::map<std::pair<dev_t, ino_t>, std::size_t> wanted;
    for (std::size_t i = 0; i < locks.size(); i++)
        if (::fstat(locks[i].fd, &st) == 0) wanted.try_emplace({st.st_dev, st.st_ino}, i);
    if (wanted.empty()) return;
    std::vector<long> pids;
    for (const std::string& name : names_in("/proc")) pids.push_back(std::strtol(name.c_str(), nullptr, 10));
    std::sort(pids.begin(), pids.end());
    for (const long pid : pids) {
        const std::string process = fmt::format("/proc/{}", pid);
        for (const std::string& number : names_in(process + "/fd")) {
            if (::stat((process + "/fd/" + number).c_str(), &st) != 0) continue;
            const auto file = wanted.find({st.st_dev, st.st_ino});
            if (file == wanted.end() || !holds(process + "/fdinfo/" + number, locks[file->second].byte)) continue;
            if (!use(file->second, pid)) return;
        }
    }
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
    h.pid = std::max(c.pid, 0L);
    if (!h.pid)
        each_holder({{fd, c.byte}}, [&](std::size_t, long pid) {
            h.pid = pid;
            return false;
        });
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

void require_no_user(const std::vector<const File*>& images) {
    std::vector<LockedByte> locks;
    std::vector<const File*> locked;
    for (const File* image : images) {
        // Whoever has an image open reads it, and lets nobody resize it, or says so of some other byte.
        const std::optional<Conflict> any = find(image->fd(), {used + consistent_read, used + write, used + resize,
                                                               unshared + write, unshared + resize, unshared + consistent_read});
        if (!any) continue;
        locks.push_back({image->fd(), any->byte});
        locked.push_back(image);
    }
    std::vector<std::optional<std::string>> users(locks.size());  // "": a keeper alone
    long last = 0;
    std::string name;
    each_holder(locks, [&](std::size_t i, long pid) {
        if (pid == ::getpid()) return true;
        if (pid != std::exchange(last, pid)) name = name_of(pid);
        if (name != keeper_process)
            users[i] = fmt::format("{} (process {})", escaped(name), pid);
        else if (!users[i])
            users[i] = "";
        return true;
    });
    for (std::size_t i = 0; i < locks.size(); i++) {
        const std::string user = users[i].value_or("a process that cannot be seen from here");
        if (!user.empty()) throw failed("{}: is open in {}: stop that first", escaped(locked[i]->path()), user);
    }
}

}  // namespace dmchain
