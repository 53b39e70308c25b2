// SPDX-License-Identifier: GPL-2.0-or-later
// Devices of the target "chain", through libdevmapper.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dm/kernel.hpp"
#include "io/file.hpp"

namespace dmchain::dm {

// Options of the table line, as docs/target.md has them; what is not given is the target's default.
struct TableOptions {
    std::optional<std::uint64_t> index_cache{};  // bytes
    std::optional<std::uint64_t> replay{};       // bytes
    std::optional<std::uint64_t> low_water{};    // bytes
    bool error_if_no_space = false;
    bool file_io = false;
};

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
    std::string exchange;  // of merged layers: "-", or "exchanging:1024/4096" and the like
};

// A file or device that the target has open: a line of its answer to the message "layers" (docs/target.md).
struct OpenLayer {
    std::uint16_t id = 0;  // 0: the chain file
    std::string state;     // chain, sealed, data, frozen, active
    bool device = false;
    std::uint64_t number = 0;  // st_dev of a file, st_rdev of a device
    std::uint64_t inode = 0;   // of a file
    std::string path;          // by which it was opened
    std::string now;           // name that a file has now; "": it was removed, or is a device
    std::string way;           // how it is read: extent, file:REASON, device; of the chain file: -

    // But for its size and times, which are not known.
    Identity identity() const {
        return {.block_device = device, .device = device ? 0 : number, .inode = inode, .special = device ? number : 0};
    }
    bool is(const Identity& who) const {
        if (device != who.block_device) return false;
        return device ? number == who.special : number == who.device && inode == who.inode;
    }
};

// Throws Exit::usage for a name that device-mapper cannot have.
void check_name(const std::string& name);

// @path as one word of a table line: blanks, line ends and backslashes are written as \ooo. And the way back.
std::string encoded_path(const std::string& path);
std::string decoded_path(const std::string& word);
// What the table line says after start, length and target.
std::string table_parameters(const std::string& chain_file, const TableOptions& options);

// Loads the module if it is not there, and tells it which machine this is: as that it owns what it writes. Throws failed().
void introduce_machine();
// Makes /dev/mapper/@name with one target of @sectors sectors. Throws failed(), with what the kernel said.
void create(const std::string& name, std::uint64_t sectors, const std::string& parameters, bool read_only);
// Throws failed() if it is in use, or no device of this tool.
void remove(const std::string& name);
// Sends @text, whose words are separated by blanks, to the target; while somebody has the device suspended, waits for up to
// 5 s. Throws failed(); the reason is in the kernel's log.
void message(const std::string& name, const std::string& text);
// A word of a message that is one whatever bytes it has.
std::string message_word(const std::string& text);
// Stops I/O to the device, all that was written being durable, until resume().
void suspend(const std::string& name);
void resume(const std::string& name);
// What the target has open: the chain file, then the layers, base first.
std::vector<OpenLayer> layers(const std::string& name);
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
// Loads the module if need be. Throws failed() if the kernel has no target that this tool knows.
void require_target();
// Version of the target; none if its module is not loaded, which it is not for this.
std::optional<Version> loaded_target();
Status status(const std::string& name);
// The parameters of the live table: the chain file and the options.
std::string parameters(const std::string& name);
// The chain file of the live table.
std::string chain_file(const std::string& name);

}  // namespace dmchain::dm
