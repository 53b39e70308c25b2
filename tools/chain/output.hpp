// SPDX-License-Identifier: GPL-2.0-or-later
// A file in the making: written under a temporary name, given its name when it is whole and durable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace dmchain::chain {

class Output {
public:
    explicit Output(const std::string& path);  // throws failed() if it cannot be made there
    ~Output();                                 // without commit(): nothing is left behind
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    // Its number stays when it gets its name.
    std::uint64_t inode() const;
    // Any thread.
    void write(const void* data, std::size_t bytes, std::uint64_t offset);
    // Makes what was written durable.
    void sync();
    // sync(), then the name, then the folder. Throws failed() if something has the name and is not to be @replaced.
    void commit(bool replace);

private:
    std::string path_;
    std::string temporary_;
    int fd_;
};

}  // namespace dmchain::chain
