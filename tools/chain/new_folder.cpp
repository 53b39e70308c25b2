// SPDX-License-Identifier: GPL-2.0-or-later
// See new_folder.hpp.
#include "chain/new_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "chain/temporary.hpp"
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
    each_temporary(path, [](const std::string& left) {
        const int fd = lock(left);
        if (fd < 0) return;
        std::error_code ignored;
        fs::remove_all(left, ignored);
        ::close(fd);
    });
}

}  // namespace

NewFolder::NewFolder(const std::string& path) : path_(path), making_(temporary_name(path)) {
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

std::string free_name(const std::string& name, std::set<std::string>& taken) {
    const fs::path path(name);
    std::string out = name;
    for (int n = 2; !taken.insert(out).second; n++)
        out = fmt::format("{}-{}{}", path.stem().string(), n, path.extension().string());
    return out;
}

}  // namespace dmchain::chain
