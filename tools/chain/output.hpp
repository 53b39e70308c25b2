// SPDX-License-Identifier: GPL-2.0-or-later
// A file in the making: without a name, where the file system can do that, otherwise under a temporary one; given its name
// when it is whole and durable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "io/file.hpp"
#include "io/unfinished.hpp"
#include "io/writable.hpp"

namespace dmchain::chain {

class Output {
public:
    // Throws failed() if it cannot be made there. Takes away what a process that was killed left under a temporary name.
    // @nameless: for tests.
    explicit Output(const std::string& path, bool nameless = true);
    ~Output();  // without commit(): nothing is left behind
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    // Its number stays when it gets its name.
    std::uint64_t inode() const;
    // Any thread.
    void write(const void* data, std::size_t bytes, std::uint64_t offset);
    // For those who write to it that way. Closed before commit().
    Writable writable() const { return Writable::of(fd_, path_); }
    // To read what was written, and write to it by File::fd().
    File file() const;
    // Its length from now on, bytes; what was not written reads zeroes.
    void resize(std::uint64_t bytes);
    // Makes what was written durable.
    void sync();
    // sync(), then the name, then the folder. Throws failed() if something has the name and is not to be @replaced.
    void commit(bool replace);

private:
    static constexpr std::uint64_t early_bytes = 16u << 20;  // after so many more the disk is given what there is

    void make_named();

    std::string path_;
    std::string temporary_;  // name; "": it has none
    std::optional<Unfinished> unfinished_;
    int fd_ = -1;
    std::atomic<std::uint64_t> written_ = 0;  // bytes
};

}  // namespace dmchain::chain
