// SPDX-License-Identifier: GPL-2.0-or-later
#include "chain/output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

Output::Output(const std::string& path) : path_(path), temporary_(fmt::format("{}.{}.tmp", path, ::getpid())) {
    fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0) throw failed("{}: cannot create: {}", escaped(temporary_), std::strerror(errno));
}

Output::~Output() {
    if (fd_ >= 0) {
        ::close(fd_);
        ::unlink(temporary_.c_str());
    }
}

std::uint64_t Output::inode() const {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) throw failed("{}: cannot stat: {}", escaped(temporary_), std::strerror(errno));
    return st.st_ino;
}

void Output::write(const void* data, std::size_t bytes, std::uint64_t offset) {
    const char* p = static_cast<const char*>(data);
    while (bytes) {
        const ssize_t n = ::pwrite(fd_, p, bytes, static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            throw failed("{}: at byte {}: cannot write: {}", escaped(temporary_), offset, std::strerror(n ? errno : ENOSPC));
        p += n;
        offset += static_cast<std::uint64_t>(n);
        bytes -= static_cast<std::size_t>(n);
    }
}

void Output::sync() {
    if (::fsync(fd_)) throw failed("{}: cannot sync: {}", escaped(temporary_), std::strerror(errno));
}

void Output::commit(bool replace) {
    sync();
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), replace ? 0 : RENAME_NOREPLACE) != 0)
        throw failed("{}: cannot rename to {}: {}", escaped(temporary_), escaped(path_), std::strerror(errno));
    ::close(fd_);
    fd_ = -1;
    auto folder = std::filesystem::path(path_).parent_path();
    const int d = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d >= 0) {
        ::fsync(d);
        ::close(d);
    }
}

}  // namespace dmchain::chain
