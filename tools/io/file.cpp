// SPDX-License-Identifier: GPL-2.0-or-later
// See file.hpp.
#include "io/file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain {
namespace {

std::string reason() { return std::strerror(errno); }

std::string link_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

Identity identity_from(const struct stat& st) {
    Identity i;
    i.block_device = S_ISBLK(st.st_mode);
    i.device = st.st_dev;
    i.inode = st.st_ino;
    i.special = i.block_device ? st.st_rdev : 0;
    i.bytes = static_cast<std::uint64_t>(st.st_size);
    i.mtime_sec = st.st_mtim.tv_sec;
    i.mtime_nsec = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
    return i;
}

}  // namespace

Place::Place(const std::string& path) : fd_(::open(path.c_str(), O_PATH | O_CLOEXEC)), name_(absolute_name(path)) {
    if (fd_ < 0) throw failed("{}: cannot open: {}", escaped(path), reason());
    std::array<char, PATH_MAX + 1> target{};
    ssize_t n = ::readlink(link_of(fd_).c_str(), target.data(), PATH_MAX);
    if (n < 0) {
        std::string why = reason();
        ::close(fd_);
        throw failed("{}: cannot find its real path: {} (is /proc mounted?)", escaped(path), why);
    }
    path_.assign(target.data(), static_cast<std::size_t>(n));
}

Place::~Place() {
    if (fd_ >= 0) ::close(fd_);
}

std::uint64_t Place::device() const {
    struct stat st {};
    return ::fstat(fd_, &st) == 0 && S_ISBLK(st.st_mode) ? st.st_rdev : 0;
}

File::File(const Place& place) : fd_(-1), name_(place.name_), path_(place.path_) {
    // Looked at before it is opened: opening a FIFO waits, opening some devices does things.
    struct stat st {};
    if (::fstat(place.fd_, &st) != 0) throw failed("{}: cannot stat: {}", escaped(path_), reason());
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        throw failed("{}: is a {}, expected a regular file or a block device", escaped(path_),
                     S_ISDIR(st.st_mode)    ? "folder"
                     : S_ISFIFO(st.st_mode) ? "FIFO"
                     : S_ISCHR(st.st_mode)  ? "character device"
                                            : "socket");
    fd_ = ::open(link_of(place.fd_).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw failed("{}: cannot open for reading: {}", escaped(path_), reason());
    try {
        identify();
    } catch (...) {
        ::close(fd_);
        throw;
    }
}

File::File(int fd, std::string name) : fd_(fd), name_(name), path_(std::move(name)) { identify(); }

File::~File() {
    if (fd_ >= 0) ::close(fd_);
}

void File::identify() {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) throw failed("{}: cannot stat: {}", escaped(path_), reason());
    identity_ = identity_from(st);
    if (identity_.block_device) {
        std::uint64_t bytes = 0;
        if (::ioctl(fd_, BLKGETSIZE64, &bytes) != 0)
            throw failed("{}: cannot get the size of the device: {}", escaped(path_), reason());
        identity_.bytes = bytes;
        // The target writes to devices past the page cache: what it holds of them may be old.
        ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
    }
}

std::uint64_t File::size_now() const {
    if (identity_.block_device) return identity_.bytes;
    struct stat st {};
    if (::fstat(fd_, &st) != 0) throw failed("{}: cannot stat: {}", escaped(path_), reason());
    return static_cast<std::uint64_t>(st.st_size);
}

std::size_t File::read_up_to_end(void* buffer, std::size_t bytes, std::uint64_t offset) const {
    auto* p = static_cast<char*>(buffer);
    std::size_t done = 0;
    while (done < bytes) {
        if (offset + done > static_cast<std::uint64_t>(LLONG_MAX)) break;
        ssize_t n = ::pread(fd_, p + done, bytes - done, static_cast<off_t>(offset + done));
        if (n == 0) break;
        if (n < 0) {
            if (errno == EINTR) continue;
            throw failed("{}: cannot read {} bytes at offset {:#x}: {}", escaped(path_), bytes - done, offset + done, reason());
        }
        done += static_cast<std::size_t>(n);
    }
    return done;
}

void File::read(void* buffer, std::size_t bytes, std::uint64_t offset) const {
    std::size_t n = read_up_to_end(buffer, bytes, offset);
    if (n < bytes)
        throw damaged("{}: ends at offset {:#x}, expected {} bytes at offset {:#x}", escaped(path_), offset + n, bytes, offset);
}

void File::read_padded(void* buffer, std::size_t bytes, std::uint64_t offset) const {
    std::size_t n = read_up_to_end(buffer, bytes, offset);
    std::memset(static_cast<char*>(buffer) + n, 0, bytes - n);
}

Identity identity_of(const std::string& path) {
    const std::optional<Identity> found = find_identity(path);
    return found ? *found : File(path).identity();  // which says what is wrong
}

std::optional<Identity> find_identity(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return std::nullopt;
    return S_ISREG(st.st_mode) ? identity_from(st) : File(path).identity();
}

void allow_open_files(std::uint64_t files) {
    struct rlimit limit {};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw failed("cannot get the limit of open files: {}", reason());
    const rlim_t want = files + spare_open_files;
    if (limit.rlim_cur >= want) return;
    if (limit.rlim_max < want) {
        // Only a privileged process may; the others are told below.
        struct rlimit more = {want, want};
        if (::setrlimit(RLIMIT_NOFILE, &more) == 0) return;
        throw failed("needs {} open files, the limit is {}; raise it with \"ulimit -n {}\"", want,
                     static_cast<std::uint64_t>(limit.rlim_max), want);
    }
    limit.rlim_cur = want;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) throw failed("cannot raise the limit of open files to {}: {}", want, reason());
}

}  // namespace dmchain
