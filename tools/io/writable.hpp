// SPDX-License-Identifier: GPL-2.0-or-later
// A file or block device opened for writing, by the commands that make and seal layers. One process at a time: as long as
// it is open it is locked against other processes of this tool (flock), and as QEMU locks what it writes (qemu_lock.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace dmchain {

class File;

class Writable {
public:
    // A new file. Throws failed() if there is one.
    static Writable create(const std::string& path);
    // What is there already. Throws failed() also if another process of this tool writes it, or another program has it open.
    static Writable open(const std::string& path);
    // The same, by who has it locked against other processes of this tool already (device/turn.hpp).
    static Writable open_locked(const std::string& path);
    // That @fd has open, as the file @path, which stays open, and is not locked here.
    static Writable of(int fd, const std::string& path);
    // A file in @folder that has no name, and is gone when it is closed. Nothing: that cannot be had there.
    static std::optional<Writable> nameless(const std::string& folder);
    ~Writable();
    Writable(Writable&& o) noexcept
        : fd_(std::exchange(o.fd_, -1)),
          direct_fd_(std::exchange(o.direct_fd_, -1)),
          path_(std::move(o.path_)),
          device_(o.device_),
          bytes_(o.bytes_) {}
    Writable& operator=(Writable&&) = delete;

    int fd() const { return fd_; }
    const std::string& path() const { return path_; }
    bool is_device() const { return device_; }
    std::uint64_t size() const { return bytes_; }  // bytes, as of opening or the last resize()

    // Any thread, within size().
    void write(const void* data, std::size_t bytes, std::uint64_t offset);
    // The same past the page cache, where that can be: after open_direct(), if the file system knows that, and data, bytes and offset
    // are multiples of direct_block. The disk is busy from the first write on, and not only when sync() is called.
    void open_direct();
    void write_direct(const void* data, std::size_t bytes, std::uint64_t offset);
    static constexpr std::size_t direct_block = 4096;
    void write_zeroes(std::uint64_t bytes, std::uint64_t offset);
    // The same as writing what @from has at byte @at, but by sharing its blocks (xfs, btrfs). Any thread, within size(). Returns
    // false if that cannot be done, for whatever reason: write it then.
    bool share(const File& from, std::uint64_t at, std::uint64_t bytes, std::uint64_t offset);
    // What was written, and the file's size, are durable; nothing of a device stays cached.
    void sync();
    void resize(std::uint64_t bytes);  // not of a device
    // Makes sure that a file has room for the range, which reads zeroes where it was not there before.
    void allocate(std::uint64_t offset, std::uint64_t bytes);
    // Makes the range read zeroes, with a hole where that is possible.
    void make_zero(std::uint64_t offset, std::uint64_t bytes);
    // Gives the range back to the file system or the device, where that is possible; it may read anything then.
    void punch(std::uint64_t offset, std::uint64_t bytes);

    // For tests: called before each step, to look on, or to stop there.
    enum class Step { write, share, sync, resize, punch };
    static std::function<void(Step, const void* data, std::uint64_t bytes, std::uint64_t offset)> watch;

private:
    Writable(int fd, std::string path, bool locked = false);

    int fd_;
    int direct_fd_ = -1;  // of write_direct(); -1: it cannot be had
    std::string path_;
    bool device_ = false;
    std::uint64_t bytes_ = 0;
};

// Makes the names in the folder of @path durable.
void sync_folder_of(const std::string& path);

}  // namespace dmchain
