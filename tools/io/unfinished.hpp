// SPDX-License-Identifier: GPL-2.0-or-later
// A file in the making that has a name: it goes with the process when that is told to end.
#pragma once

#include <string>

namespace dmchain {

// As long as this is there, SIGINT, SIGTERM and SIGHUP remove the file @path before they end the process, unless the process
// ignores them. At most a few at a time.
class Unfinished {
public:
    explicit Unfinished(const std::string& path);
    ~Unfinished();
    Unfinished(const Unfinished&) = delete;
    Unfinished& operator=(const Unfinished&) = delete;

private:
    std::string path_;
    std::size_t place_;
};

}  // namespace dmchain
