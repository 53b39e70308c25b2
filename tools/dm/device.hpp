// SPDX-License-Identifier: GPL-2.0-or-later
// Devices of the target "chain", through libdevmapper.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dm/kernel.hpp"

namespace dmchain::dm {

struct Device {
    std::string name;
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    std::int32_t open_count = 0;
    bool read_only = false;
    bool suspended = false;
};

// The status line of the target, as docs/target.md has it.
struct Status {
    std::uint64_t sectors = 0;  // of the device, 512 bytes each
    std::uint64_t cluster_sectors = 0;
    std::uint64_t subblock_sectors = 0;
    std::uint64_t depth = 0;  // layers
    std::string active;       // id, or "-"
    std::string mode;         // rw, out_of_space, ro, fail
    std::string needs_check;  // "-" or "needs_check"
    std::uint64_t nodes_resident = 0, nodes_total = 0;
    std::uint64_t index_bytes = 0, index_limit = 0;
    std::uint64_t clusters_allocated = 0, clusters_total = 0;
    std::uint64_t commits = 0, log_bytes = 0;
    std::uint64_t hits = 0, misses = 0, compressed_reads = 0;
};

// Throws Exit::usage for a name that device-mapper cannot have.
void check_name(const std::string& name);

// What the table line says after start, length and target. Throws Exit::usage for a path that it cannot say.
std::string table_parameters(const std::string& chain_file, std::optional<std::uint64_t> index_cache);

// Makes /dev/mapper/@name with one target of @sectors sectors. Throws failed(), with what the kernel said.
void create(const std::string& name, std::uint64_t sectors, const std::string& parameters, bool read_only);
// Throws failed() if it is in use, or no device of this tool.
void remove(const std::string& name);
// Sends @text, whose words are separated by blanks, to the target. Throws failed(); the reason is in the kernel's log.
void message(const std::string& name, const std::string& text);
// A word of a message that is one whatever bytes it has.
std::string message_word(const std::string& text);
// The same table with another length, in sectors: loads it, suspends the device and resumes it with the new table.
void reload(const std::string& name, std::uint64_t sectors);
// All devices with a chain target, by name.
std::vector<Device> list();
// The same, but none, instead of a refusal, where the kernel has no device-mapper device at all.
std::vector<Device> list_if_any();
// Throws failed() if there is no such device, or it is of another kind.
Device find(const std::string& name);
bool exists(const std::string& name);  // a device of any kind
// Throws failed() if the name is in use, or the kernel has no target for such a device.
void require_creatable(const std::string& name);
// Of the target; none if the kernel does not have it, nor a module that it can load.
std::optional<Version> target_version();
Status status(const std::string& name);
// The parameters of the live table: the chain file and the options.
std::string parameters(const std::string& name);
// The chain file of the live table.
std::string chain_file(const std::string& name);

}  // namespace dmchain::dm
