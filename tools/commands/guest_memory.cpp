// SPDX-License-Identifier: GPL-2.0-or-later
// See guest_memory.hpp.
#include "commands/guest_memory.hpp"

#include "io/progress.hpp"

namespace dmchain::commands {

namespace {

guest::Stream read(const std::string& path, guest::Candidates& candidates) {
    File file(path);
    Progress progress("reading", file.size(), Progress::Counts::bytes);
    return guest::Stream(
        std::move(file),
        [&](std::size_t block, std::uint64_t page, const unsigned char* data) { candidates.look_at(block, page, data); },
        [&](std::uint64_t done) { progress.reach(done); });
}

}  // namespace

GuestMemory::GuestMemory(const std::string& path)
    : stream_(read(path, candidates_)), map_(guest::classify(stream_, candidates_)) {}

}  // namespace dmchain::commands
