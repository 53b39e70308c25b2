// SPDX-License-Identifier: GPL-2.0-or-later
// See guest_memory.hpp.
#include "commands/guest_memory.hpp"

#include <optional>

#include "guest/firecracker.hpp"
#include "guest/open.hpp"
#include "io/progress.hpp"

namespace dmchain::commands {

namespace {

guest::Image read(const MemoryOptions& o, guest::Candidates& candidates) {
    const guest::Seen seen = [&](std::size_t block, std::uint64_t page, const unsigned char* data) {
        candidates.look_at(block, page, data);
    };
    std::optional<Progress> progress;
    const guest::Done done = [&](std::uint64_t n) { progress->reach(n); };
    if (o.firecracker) {
        progress.emplace("reading", File(o.file).size(), Progress::Counts::bytes);
        return guest::read_firecracker(File(o.file), o.diffs, o.state, seen, done);
    }
    guest::Source source = guest::open_source(o.file);
    progress.emplace("reading", source.size(), Progress::Counts::bytes);
    return guest::read_image(std::move(source), seen, done);
}

}  // namespace

void add_firecracker_options(CLI::App& command, MemoryOptions& options) {
    CLI::Option* const firecracker =
        command.add_flag("--firecracker", options.firecracker, "The file is the memory of a Firecracker microVM");
    command.add_option("--diff", options.diffs, "A diff snapshot's memory, on top of it; repeatable, the oldest first")
        ->type_name("FILE")
        ->allow_extra_args(false)
        ->needs(firecracker);
}

GuestMemory::GuestMemory(const MemoryOptions& options)
    : image_(read(options, candidates_)), map_(guest::classify(image_, candidates_)) {}

}  // namespace dmchain::commands
