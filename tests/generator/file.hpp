// SPDX-License-Identifier: GPL-2.0-or-later
// A file being written, at any place; every failure ends the program with one line.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include "prng.hpp"

namespace gen {

class File {
public:
    explicit File(const std::string& path, int flags = O_CREAT | O_TRUNC | O_RDWR) : path_(path) {
        fd_ = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
        if (fd_ < 0) fail("open");
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { ::close(fd_); }

    void write(u64 at, std::span<const u8> data) {
        while (!data.empty()) {
            const ssize_t n = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(at));
            if (n <= 0) fail("write");
            data = data.subspan(static_cast<std::size_t>(n));
            at += static_cast<u64>(n);
        }
    }
    // Leaves holes where whole pages are zero.
    void write_sparse(u64 at, std::span<const u8> data) {
        static const u8 zero[4096] = {};
        while (!data.empty()) {
            const std::size_t n = std::min<std::size_t>(data.size(), 4096 - at % 4096);
            if (std::memcmp(data.data(), zero, n) != 0) write(at, data.first(n));
            data = data.subspan(n);
            at += n;
        }
    }
    // False at the end of the file; a short last piece is filled up with zeroes.
    bool read(u64 at, std::span<u8> data) {
        std::size_t got = 0;
        while (got < data.size()) {
            const ssize_t n = ::pread(fd_, data.data() + got, data.size() - got, static_cast<off_t>(at + got));
            if (n < 0) fail("read");
            if (n == 0) break;
            got += static_cast<std::size_t>(n);
        }
        std::fill(data.begin() + static_cast<std::ptrdiff_t>(got), data.end(), u8{0});
        return got > 0;
    }
    void resize(u64 bytes) {
        if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) fail("resize");
    }
    u64 size() const { return static_cast<u64>(::lseek(fd_, 0, SEEK_END)); }
    int descriptor() const { return fd_; }
    const std::string& path() const { return path_; }

private:
    [[noreturn]] void fail(const char* what) const {
        throw std::runtime_error(path_ + ": cannot " + what + ": " + std::strerror(errno));
    }
    std::string path_;
    int fd_;
};

}  // namespace gen
