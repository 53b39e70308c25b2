// SPDX-License-Identifier: GPL-2.0-or-later
// The memory of a stopped guest, read with a progress bar. For guest-map and replicate.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "guest/classify.hpp"
#include "guest/image.hpp"

namespace dmchain::commands {

// Where it is.
struct MemoryOptions {
    std::string file;  // as of guest/open.hpp
    bool firecracker = false;
    std::vector<std::string> diffs;
    std::string state;  // "": not given
};
// "--firecracker", "--diff".
void add_firecracker_options(CLI::App& command, MemoryOptions& options);

class GuestMemory {
public:
    explicit GuestMemory(const MemoryOptions& options);

    const guest::Image& image() const { return image_; }
    const guest::PageMap& map() const { return map_; }

private:
    guest::Candidates candidates_;
    guest::Image image_;
    guest::PageMap map_;
};

}  // namespace dmchain::commands
