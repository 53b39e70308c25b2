// SPDX-License-Identifier: GPL-2.0-or-later
// A file or block device opened for reading. Used by everything that reads images; reads are
// positioned, so one File may be read from many threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace dmchain {

// What a file is, beyond its name: two names of the same file have equal `device`, `inode` and
// `special`. Taken once, when the file is opened.
struct Identity {
    bool block_device = false;
    std::uint64_t device = 0;  // of the file system
    std::uint64_t inode = 0;
    std::uint64_t special = 0;  // block device: its own number; otherwise 0
    std::uint64_t bytes = 0;    // size of the file or device
    std::int64_t mtime_sec = 0;
    std::uint32_t mtime_nsec = 0;

    bool same_file(const Identity& o) const {
        if (block_device != o.block_device) return false;
        return block_device ? special == o.special : device == o.device && inode == o.inode;
    }
};

// A name looked up, but not opened: what lies there can be judged (its real path, its identity)
// before anything is read. What is opened later is that very file, whatever happens to the name.
class Place {
public:
    explicit Place(const std::string& path);  // throws failed() if there is nothing
    ~Place();
    Place(Place&& o) noexcept : fd_(std::exchange(o.fd_, -1)), name_(std::move(o.name_)), path_(std::move(o.path_)) {}
    Place& operator=(Place&&) = delete;

    const std::string& name() const { return name_; }  // absolute, symlinks as they are: to be written down
    const std::string& path() const { return path_; }  // absolute, symlinks resolved: to be checked
    std::uint64_t device() const;                      // number of the block device; 0: it is none

private:
    friend class File;
    int fd_;
    std::string name_;
    std::string path_;
};

class File {
public:
    explicit File(const std::string& path) : File(Place(path)) {}
    explicit File(const Place& place);
    // Takes over @fd; @name is what messages call it.
    File(int fd, std::string name);
    ~File();
    File(File&& o) noexcept
        : fd_(std::exchange(o.fd_, -1)), name_(std::move(o.name_)), path_(std::move(o.path_)), identity_(o.identity_) {}
    File& operator=(File&& o) noexcept {
        std::swap(fd_, o.fd_);
        std::swap(name_, o.name_);
        std::swap(path_, o.path_);
        std::swap(identity_, o.identity_);
        return *this;
    }

    int fd() const { return fd_; }
    const std::string& name() const { return name_; }  // as of Place
    const std::string& path() const { return path_; }
    const Identity& identity() const { return identity_; }
    std::uint64_t size() const { return identity_.bytes; }  // bytes, as of opening
    std::uint64_t size_now() const;                         // of a file that others write to; a device has that of opening

    // All of @bytes at @offset, or throws: failed() for an I/O error, damaged() if the file ends first.
    void read(void* buffer, std::size_t bytes, std::uint64_t offset) const;
    // The same, but what lies past the end of the file reads as zeroes.
    void read_padded(void* buffer, std::size_t bytes, std::uint64_t offset) const;

private:
    void identify();
    std::size_t read_up_to_end(void* buffer, std::size_t bytes, std::uint64_t offset) const;

    int fd_;
    std::string name_;
    std::string path_;
    Identity identity_;
};

// Of the file or block device that has the path now. A regular file is not opened, whether or not it could be read:
// this is for looking at a thousand of them. Throws failed() as File(path) does if there is nothing, or something else.
Identity identity_of(const std::string& path);
// The same; nothing: there is nothing.
std::optional<Identity> find_identity(const std::string& path);

// What a process has open besides the files of a chain, at most.
inline constexpr std::uint64_t spare_open_files = 256;

// Raises the limit of open files so that @files more than now can be opened; throws failed() with the limit
// that stands in the way.
void allow_open_files(std::uint64_t files);

}  // namespace dmchain
