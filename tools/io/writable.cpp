// SPDX-License-Identifier: GPL-2.0-or-later
// See writable.hpp.
#include "io/writable.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "io/error.hpp"
#include "io/file.hpp"
#include "io/no_room.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain {

std::function<void(Writable::Step, const void*, std::uint64_t, std::uint64_t)> Writable::watch;

namespace {

void seen(Writable::Step step, const void* data, std::uint64_t bytes, std::uint64_t offset) {
    if (Writable::watch) Writable::watch(step, data, bytes, offset);
}

int opened(const std::string& path, int flags, const char* doing) {
    const int fd = ::open(path.c_str(), flags | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0) throw_not_written(escaped(path), doing, errno);
    return fd;
}

}  // namespace

Writable Writable::create(const std::string& path) { return {opened(path, O_CREAT | O_EXCL, "create"), path}; }

Writable Writable::open(const std::string& path) { return {opened(path, 0, "open for writing"), path}; }

Writable Writable::open_locked(const std::string& path) { return {opened(path, 0, "open for writing"), path, true}; }

Writable Writable::of(int fd, const std::string& path) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw failed("{}: cannot open for writing: {}", escaped(path), std::strerror(errno));
    return {copy, path, true};
}

std::optional<Writable> Writable::nameless(const std::string& folder) {
    const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return std::nullopt;
    return Writable(fd, folder);
}

Writable::Writable(int fd, std::string path, bool locked) : fd_(fd), path_(std::move(path)) {
    struct stat st {};
    std::string why;
    if (!locked && ::flock(fd_, LOCK_EX | LOCK_NB) != 0)
        why = errno == EWOULDBLOCK ? "another dmchain works on it: wait until it is done"
                                   : fmt::format("cannot lock: {}", std::strerror(errno));
    else if (::fstat(fd_, &st) != 0)
        why = fmt::format("cannot stat: {}", std::strerror(errno));
    else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        why = "is neither a regular file nor a block device";
    else if (S_ISBLK(st.st_mode) && ::ioctl(fd_, BLKGETSIZE64, &bytes_) != 0)
        why = fmt::format("cannot get the size of the device: {}", std::strerror(errno));
    else if (const auto conflict = lock_image(fd_, ImageUse::write))
        why = conflict->found + ": " + conflict->advice;
    if (!why.empty()) {
        ::close(fd_);
        throw failed("{}: {}", escaped(path_), why);
    }
    device_ = S_ISBLK(st.st_mode);
    if (!device_) bytes_ = static_cast<std::uint64_t>(st.st_size);
}

Writable::~Writable() {
    for (const int fd : {fd_, direct_fd_})
        if (fd >= 0) ::close(fd);
}

void Writable::write(const void* data, std::size_t bytes, std::uint64_t offset) {
    seen(Step::write, data, bytes, offset);
    const std::size_t done = write_all(fd_, data, bytes, offset);
    if (done && offset + done > bytes_) bytes_ = offset + done;
    if (done < bytes) {
        const int why = errno;
        throw_not_written(escaped(path_), fmt::format("write {} bytes at offset {:#x}", bytes - done, offset + done), why);
    }
}

void Writable::open_direct() {
    if (direct_fd_ < 0) direct_fd_ = ::open(fmt::format("/proc/self/fd/{}", fd_).c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
}

void Writable::write_direct(const void* data, std::size_t bytes, std::uint64_t offset) {
    const bool fits = (reinterpret_cast<std::uintptr_t>(data) | bytes | offset) % direct_block == 0;
    if (direct_fd_ < 0 || !fits) return write(data, bytes, offset);
    seen(Step::write, data, bytes, offset);
    const std::size_t done = write_all(direct_fd_, data, bytes, offset);
    // What the disk does not take so, or not all of it, is written as ever: that says why, too.
    if (done < bytes) write(static_cast<const char*>(data) + done, bytes - done, offset + done);
}

void Writable::write_zeroes(std::uint64_t bytes, std::uint64_t offset) {
    const std::vector<char> zeroes(std::min<std::uint64_t>(bytes, 1u << 20));
    for (std::uint64_t n; bytes; bytes -= n, offset += n)
        write(zeroes.data(), n = std::min<std::uint64_t>(bytes, zeroes.size()), offset);
}

bool Writable::share(const File& from, std::uint64_t at, std::uint64_t bytes, std::uint64_t offset) {
    seen(Step::share, nullptr, bytes, offset);
    const file_clone_range range{from.fd(), at, bytes, offset};
    return ::ioctl(fd_, FICLONERANGE, &range) == 0;
}

void Writable::sync() {
    seen(Step::sync, nullptr, 0, 0);
    if (::fsync(fd_) != 0) throw_not_written(escaped(path_), "sync", errno);
    // The target writes to devices past the page cache: who reads them later must not find what was cached before.
    if (device_) ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
}

void Writable::resize(std::uint64_t bytes) {
    seen(Step::resize, nullptr, bytes, 0);
    if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0)
        throw_not_written(escaped(path_), fmt::format("set its length to {} bytes", bytes), errno);
    bytes_ = bytes;
}

void Writable::allocate(std::uint64_t offset, std::uint64_t bytes) {
    if (::fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
        const int why = errno;
        // Of what does not fit, file systems keep a part.
        if (offset >= bytes_ && ::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0) {}
        if (why != EOPNOTSUPP && why != ENOSYS)
            throw_not_written(escaped(path_), fmt::format("allocate {} bytes at offset {:#x}", bytes, offset), why);
        if (offset + bytes > bytes_) resize(offset + bytes);
    }
    bytes_ = std::max(bytes_, offset + bytes);
}

void Writable::make_zero(std::uint64_t offset, std::uint64_t bytes) {
    seen(Step::punch, nullptr, bytes, offset);
    // Of a device, too, this reads zeroes afterwards, or fails.
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0)
        write_zeroes(bytes, offset);
}

void Writable::punch(std::uint64_t offset, std::uint64_t bytes) {
    seen(Step::punch, nullptr, bytes, offset);
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes)) !=
            0 &&
        errno != EOPNOTSUPP && errno != ENOSYS)
        throw failed("{}: cannot give back {} bytes at offset {:#x}: {}", escaped(path_), bytes, offset, std::strerror(errno));
}

void sync_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : slash ? path.substr(0, slash) : "/";
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool done = fd >= 0 && ::fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0) ::close(fd);
    if (!done) throw failed("{}: cannot sync the folder: {}", escaped(folder), std::strerror(why));
}

}  // namespace dmchain
