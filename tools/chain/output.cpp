// SPDX-License-Identifier: GPL-2.0-or-later
#include "chain/output.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "io/error.hpp"
#include "chain/temporary.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain::chain {

namespace {

namespace fs = std::filesystem;

fs::path folder_of(const std::string& path) {
    const fs::path folder = fs::path(path).parent_path();
    return folder.empty() ? "." : folder;
}

void remove_left(const std::string& path) {
    each_temporary(path, [](const std::string& left) {
        const int fd = ::open(left.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) return;
        struct stat st {};
        if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(left.c_str());
        ::close(fd);
    });
}

std::string link_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace

Output::Output(const std::string& path, bool nameless) : path_(path) {
    remove_left(path);
    if (nameless) fd_ = ::open(folder_of(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (fd_ < 0) make_named();
}

void Output::make_named() {
    temporary_ = temporary_name(path_);
    unfinished_.emplace(temporary_);
    struct stat st {};
    // One that was taken for left behind, before it was locked, is made once more.
    while (st.st_nlink == 0) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd_ < 0) throw_not_written(escaped(temporary_), "create", errno);
        ::flock(fd_, LOCK_EX);  // where there are no locks nothing is taken for left behind
        ::fstat(fd_, &st);
    }
}

Output::~Output() {
    if (fd_ < 0) return;
    ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

std::uint64_t Output::inode() const {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) throw failed("{}: cannot stat: {}", escaped(path_), std::strerror(errno));
    return st.st_ino;
}

void Output::write(const void* data, std::size_t bytes, std::uint64_t offset) {
    const std::size_t done = write_all(fd_, data, bytes, offset);
    if (done < bytes) {
        const int why = errno;
        throw_not_written(escaped(path_), fmt::format("write at byte {}", offset + done), why);
    }
    // So that the disk is busy from here on, and not only when sync() is called.
    const std::uint64_t before = written_.fetch_add(bytes, std::memory_order_relaxed);
    if (before / early_bytes != (before + bytes) / early_bytes) ::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE);
}

File Output::file() const {
    const int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw failed("{}: cannot open again: {}", escaped(path_), std::strerror(errno));
    return {fd, path_};
}

void Output::resize(std::uint64_t bytes) {
    if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0)
        throw_not_written(escaped(path_), fmt::format("set its length to {} bytes", bytes), errno);
}

void Output::sync() {
    if (::fsync(fd_)) throw_not_written(escaped(path_), "sync", errno);
}

void Output::commit(bool replace) {
    sync();
    // A name can be given to what has none, but only if nothing has that name.
    if (temporary_.empty() && ::linkat(AT_FDCWD, link_of(fd_).c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
        if (!replace || errno != EEXIST) throw_not_written(escaped(path_), "create", errno);
        const std::string name = temporary_name(path_);
        ::flock(fd_, LOCK_EX);
        if (::linkat(AT_FDCWD, link_of(fd_).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
            throw_not_written(escaped(name), "create", errno);
        temporary_ = name;
    }
    if (!temporary_.empty() &&
        ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), replace ? 0 : RENAME_NOREPLACE) != 0)
        throw_not_written(escaped(temporary_), fmt::format("rename to {}", escaped(path_)), errno);
    unfinished_.reset();
    ::close(fd_);
    fd_ = -1;
    const int d = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d >= 0) {
        ::fsync(d);
        ::close(d);
    }
}

}  // namespace dmchain::chain
