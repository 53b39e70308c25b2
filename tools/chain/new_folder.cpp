// SPDX-License-Identifier: GPL-2.0-or-later
// See new_folder.hpp. Whoever makes one holds a lock on it, which ends with the process.
#include "chain/new_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

int lock(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    if (fd >= 0) ::close(fd);
    return -1;
}

void remove_left(const std::string& path) {
    const std::string prefix = fs::path(path).filename().string() + ".";
    const fs::path parent = fs::path(path).parent_path();
    std::error_code error;
    for (fs::directory_iterator at(parent.empty() ? "." : parent, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (!name.starts_with(prefix) || !name.ends_with(".tmp") || name.size() <= prefix.size() + 4) continue;
        const std::string number = name.substr(prefix.size(), name.size() - prefix.size() - 4);
        if (number.find_first_not_of("0123456789") != std::string::npos) continue;
        const int fd = lock(at->path().string());
        if (fd < 0) continue;
        std::error_code ignored;
        fs::remove_all(at->path(), ignored);
        ::close(fd);
    }
}

}  // namespace

NewFolder::NewFolder(const std::string& path) : path_(path), making_(fmt::format("{}.{}.tmp", path, ::getpid())) {
    std::error_code error;
    if (fs::exists(fs::symlink_status(path, error)))
        throw failed("{}: is there already: name a folder that is not there", escaped(path));
    remove_left(path);
    if (!fs::create_directory(making_, error)) throw_not_written(escaped(making_), "make the folder", error.value());
    fd_ = lock(making_);
}

NewFolder::~NewFolder() {
    std::error_code ignored;
    if (!making_.empty()) fs::remove_all(making_, ignored);
    if (fd_ >= 0) ::close(fd_);
}

void NewFolder::commit() {
    sync_folder_of(making_ + "/.");
    if (::renameat2(AT_FDCWD, making_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0)
        throw_not_written(escaped(making_), fmt::format("rename to {}", escaped(path_)), errno);
    making_.clear();
    sync_folder_of(path_);
}

}  // namespace dmchain::chain
