// SPDX-License-Identifier: GPL-2.0-or-later
// The memory of a stopped guest, read from a file with a progress bar. For guest-map and replicate.
#pragma once

#include <string>

#include "guest/classify.hpp"
#include "guest/stream.hpp"

namespace dmchain::commands {

class GuestMemory {
public:
    explicit GuestMemory(const std::string& path);

    const guest::Stream& stream() const { return stream_; }
    const guest::PageMap& map() const { return map_; }

private:
    guest::Candidates candidates_;
    guest::Stream stream_;
    guest::PageMap map_;
};

}  // namespace dmchain::commands
