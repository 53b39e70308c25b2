// SPDX-License-Identifier: GPL-2.0-or-later
// A folder that is there whole, or not: made under another name, as output.hpp does it with a file.
#pragma once

#include <set>
#include <string>

namespace dmchain::chain {

class NewFolder {
public:
    // Throws failed() if there is something at @path. What broken runs for the same folder left behind goes.
    explicit NewFolder(const std::string& path);
    ~NewFolder();
    NewFolder(const NewFolder&) = delete;
    NewFolder& operator=(const NewFolder&) = delete;

    // Where its files are made.
    const std::string& making() const { return making_; }
    // It gets its name, durably. Its files are durable already.
    void commit();

private:
    const std::string path_;
    std::string making_;
    int fd_ = -1;
};

// For a file in it: "disk.qcow2", or "disk-2.qcow2" if that is taken. It is taken then.
std::string free_name(const std::string& name, std::set<std::string>& taken);

}  // namespace dmchain::chain
