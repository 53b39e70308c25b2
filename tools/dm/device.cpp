// SPDX-License-Identifier: GPL-2.0-or-later
#include "dm/device.hpp"
#include "dm/kernel.hpp"

#include <libdevmapper.h>
#include <linux/dm-ioctl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "io/error.hpp"
#include "io/machine.hpp"
#include "io/text.hpp"

namespace dmchain::dm {

namespace {

constexpr const char* target = "chain";

// libdevmapper reports through a callback: keep the last error for the one line that we print.
std::string last_error;

void note_error(int level, const char*, int, int, const char* format, ...) {
    if ((level & 7) > 3) return;  // the level proper, as of syslog: 3 is an error, the rest are flags
    char line[1024];
    va_list args;
    va_start(args, format);
    std::vsnprintf(line, sizeof line, format, args);
    va_end(args);
    last_error = line;
}

struct TaskEnd {
    void operator()(dm_task* t) const { dm_task_destroy(t); }
};
using Task = std::unique_ptr<dm_task, TaskEnd>;

Error dm_failed(const std::string& name, const char* doing) {
    const std::string why = last_error.empty() ? std::strerror(errno) : last_error;
    return failed("{}: cannot {}: {}", escaped(name), doing, escaped(why));
}

Task make_task(int type, const std::string& name) {
    dm_log_with_errno_init(note_error);
    require_device_mapper();
    last_error.clear();
    Task t(dm_task_create(type));
    if (!t || (!name.empty() && !dm_task_set_name(t.get(), name.c_str()))) throw dm_failed(name, "prepare a request");
    return t;
}

// Waits for udev where it runs; without it libdevmapper makes the nodes itself.
void run_and_settle(dm_task* t, const std::string& name, const char* doing) {
    std::uint32_t cookie = 0;
    const bool udev = dm_udev_get_sync_support() && !std::getenv("DM_DISABLE_UDEV");
    if (udev && !dm_task_set_cookie(t, &cookie, 0)) throw dm_failed(name, doing);
    const bool ok = dm_task_run(t);
    const Error error = ok ? Error(Exit::done, "") : dm_failed(name, doing);
    if (udev)
        dm_udev_wait(cookie);
    else
        dm_task_update_nodes();
    if (!ok) throw error;
}

// Calls @use(start, length, type, parameters) for each target of the table or status @t.
template <typename Use>
void each_target(dm_task* t, Use use) {
    void* next = nullptr;
    do {
        std::uint64_t start = 0, length = 0;
        char *type = nullptr, *params = nullptr;
        next = dm_get_next_target(t, next, &start, &length, &type, &params);
        if (type) use(start, length, type, params ? params : "");
    } while (next);
}

struct Line {
    std::uint64_t length = 0;
    std::string parameters;
};

// The one chain target of the device: its table (@table) or status line.
Line line(const std::string& name, bool table) {
    const Task t = make_task(table ? DM_DEVICE_TABLE : DM_DEVICE_STATUS, name);
    if (!dm_task_run(t.get())) throw dm_failed(name, table ? "read its table" : "read its status");
    dm_info info{};
    if (!dm_task_get_info(t.get(), &info) || !info.exists)
        throw failed("{}: there is no such device; 'dmchain ls' lists those there are", escaped(name));
    std::optional<Line> found;
    each_target(t.get(), [&](std::uint64_t, std::uint64_t length, const char* type, const char* params) {
        if (std::string_view(type) == target) found = Line{length, params};
    });
    if (!found) throw failed("{}: the device has no chain target; 'dmchain ls' lists those that have", escaped(name));
    return *found;
}

}  // namespace

void check_name(const std::string& name) {
    if (name.empty() || name.size() >= DM_NAME_LEN || name.find('/') != std::string::npos || name == "." || name == "..")
        throw Error(Exit::usage, fmt::format("{}: a device name has 1 to {} bytes and no '/'", in_quotes(name), DM_NAME_LEN - 1));
}

// device-mapper splits a table line at blanks, and libdevmapper doubles the backslashes that would keep it from that.
std::string encoded_path(const std::string& path) {
    std::string out;
    for (const char c : path) {
        if (std::isspace(static_cast<unsigned char>(c)) || c == '\\')
            out += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
        else
            out += c;
    }
    return out;
}

std::string decoded_path(const std::string& word) {
    const auto octal = [&](std::size_t i) { return i < word.size() && word[i] >= '0' && word[i] <= '7'; };
    std::string out;
    for (std::size_t i = 0; i < word.size(); i++) {
        if (word[i] != '\\' || !octal(i + 1) || !octal(i + 2) || !octal(i + 3)) {
            out += word[i];
            continue;
        }
        out += static_cast<char>((word[i + 1] - '0') << 6 | (word[i + 2] - '0') << 3 | (word[i + 3] - '0'));
        i += 3;
    }
    return out;
}

std::string table_parameters(const std::string& chain_file, const TableOptions& o) {
    std::string words;
    unsigned count = 0;
    const auto add = [&](const char* option, const std::optional<std::uint64_t>& value) {
        if (!value) return;
        words += fmt::format(" {} {}", option, *value);
        count += 2;
    };
    add("index_cache", o.index_cache);
    add("replay", o.replay);
    add("low_water", o.low_water);
    const auto flag = [&](const char* option, bool given) {
        if (!given) return;
        words += fmt::format(" {}", option);
        count++;
    };
    flag("error_if_no_space", o.error_if_no_space);
    flag("file_io", o.file_io);
    return encoded_path(chain_file) + (count ? fmt::format(" {}{}", count, words) : "");
}

namespace {

std::optional<Version> version_of(dm_task* t) {
    const dm_versions* v = dm_task_get_versions(t);
    while (v && std::string_view(v->name) != target)
        v = v->next ? reinterpret_cast<const dm_versions*>(reinterpret_cast<const char*>(v) + v->next) : nullptr;
    if (!v) return std::nullopt;
    return Version{v->version[0], v->version[1], v->version[2]};
}

}  // namespace

std::optional<Version> loaded_target() {
    const Task t = make_task(DM_DEVICE_LIST_VERSIONS, "");
    return dm_task_run(t.get()) ? version_of(t.get()) : std::nullopt;
}

void require_target() {
    // Loads the module, as loading a table would.
    const Task t = make_task(DM_DEVICE_GET_TARGET_VERSION, target);
    const std::optional<Version> version = dm_task_run(t.get()) ? version_of(t.get()) : std::nullopt;
    if (const auto lack = lack_of_target(look_at_kernel(), version)) throw failed("{}", lack->text());
}

void introduce_machine() {
    static constexpr const char* parameter = "/sys/module/dm_chain/parameters/machine_id";
    std::error_code none;
    if (!std::filesystem::exists(parameter, none)) require_target();
    if (first_line(parameter).find_first_not_of('0') != std::string::npos) return;
    const std::string id = machine_id();
    const auto tell = [](const char* name, const std::string& value) {
        std::ofstream out(name);
        if (!(out << value << std::endl)) throw failed("{}: cannot write the id of this machine: {}", name, std::strerror(errno));
    };
    tell("/sys/module/dm_chain/parameters/boot_id", first_line("/proc/sys/kernel/random/boot_id"));
    tell(parameter, id);
}

void create(const std::string& name, std::uint64_t sectors, const std::string& params, bool read_only) {
    check_name(name);
    introduce_machine();
    const Task t = make_task(DM_DEVICE_CREATE, name);
    if (!dm_task_add_target(t.get(), 0, sectors, target, params.c_str())) throw dm_failed(name, "prepare its table");
    if (read_only && !dm_task_set_ro(t.get())) throw dm_failed(name, "make it read-only");
    run_and_settle(t.get(), name, "create the device (the kernel log has the reason)");
}

void remove(const std::string& name) {
    line(name, true);
    const Task t = make_task(DM_DEVICE_REMOVE, name);
    dm_task_retry_remove(t.get());
    run_and_settle(t.get(), name, "remove the device");
}

namespace {

dm_info look_at(const std::string& name) {
    const Task t = make_task(DM_DEVICE_INFO, name);
    dm_info info{};
    if (!dm_task_run(t.get()) || !dm_task_get_info(t.get(), &info)) throw dm_failed(name, "look at the device");
    return info;
}

Device device_of(const std::string& name, const dm_info& info) {
    return {name, info.major, info.minor, info.open_count, info.read_only != 0, info.suspended != 0};
}

}  // namespace

bool exists(const std::string& name) { return look_at(name).exists != 0; }

void require_creatable(const std::string& name) {
    const dm_info info = look_at(name);
    if (info.exists && !info.live_table)
        throw failed(
            "{}: there is such a device without a table, as a command leaves it that is killed while it makes one: "
            "'dmsetup remove {}' first",
            escaped(name), escaped(name));
    if (info.exists)
        throw failed("{}: there is such a device already: 'dmchain remove' it, or choose another name", escaped(name));
    require_target();
}

Device find(const std::string& name) {
    const dm_info info = look_at(name);
    if (!info.exists) throw failed("{}: there is no such device; 'dmchain ls' lists those there are", escaped(name));
    return device_of(name, info);
}

namespace {

// Sends the message; see message(). The task has the answer.
Task send(const std::string& name, const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    for (bool was_suspended = true;;) {
        Task t = make_task(DM_DEVICE_TARGET_MSG, name);
        if (!dm_task_set_sector(t.get(), 0) || !dm_task_set_message(t.get(), text.c_str()))
            throw dm_failed(name, "prepare a message");
        if (dm_task_run(t.get())) return t;
        const Error failure =
            dm_failed(name, fmt::format("send the message \"{}\" (the kernel log has the reason)", escaped(text)).c_str());
        // Suspended by somebody for a moment: it may be over when we look, so once more then.
        if (dm_task_get_errno(t.get()) != EBUSY) throw failure;
        const bool suspended = find(name).suspended;
        if (!suspended && !was_suspended) throw failure;
        if (std::chrono::steady_clock::now() >= end)
            throw failed("{}: the device is suspended: resume it first (dmsetup resume {})", escaped(name), escaped(name));
        was_suspended = suspended;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

}  // namespace

void message(const std::string& name, const std::string& text) { send(name, text); }

// The kernel takes a backslash before a blank or a backslash for that byte.
std::string message_word(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (std::isspace(static_cast<unsigned char>(c)) || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

void suspend(const std::string& name) {
    const Task t = make_task(DM_DEVICE_SUSPEND, name);
    if (!dm_task_run(t.get())) throw dm_failed(name, "suspend the device");
}

void resume(const std::string& name) {
    const Task t = make_task(DM_DEVICE_RESUME, name);
    run_and_settle(t.get(), name, "resume the device (the kernel log has the reason)");
}

void reload(const std::string& name, std::uint64_t sectors) {
    const std::string params = parameters(name);
    const bool read_only = find(name).read_only;
    const Task load = make_task(DM_DEVICE_RELOAD, name);
    if (!dm_task_add_target(load.get(), 0, sectors, target, params.c_str())) throw dm_failed(name, "prepare its table");
    if (read_only && !dm_task_set_ro(load.get())) throw dm_failed(name, "make it read-only");
    if (!dm_task_run(load.get())) throw dm_failed(name, "load its table (the kernel log has the reason)");
    // The kernel suspends it by itself: whoever is killed here leaves no device that stands still.
    try {
        resume(name);
    } catch (...) {
        const Task clear = make_task(DM_DEVICE_CLEAR, name);
        dm_task_run(clear.get());
        throw;
    }
}

namespace {

OpenLayer open_layer(const std::string& name, const std::string& line) {
    OpenLayer l;
    std::istringstream words(line);
    std::string type, path, now;
    unsigned major = 0, minor = 0;
    char colon = 0;
    words >> l.id >> l.state >> type >> major >> colon >> minor >> l.inode >> path >> now >> l.way;
    if (!words || colon != ':' || (type != "file" && type != "device"))
        throw failed("{}: the target's list of layers is not what this tool knows: {}", escaped(name), escaped(line));
    l.device = type == "device";
    l.number = ::makedev(major, minor);
    l.path = decoded_path(path);
    if (now != "-") l.now = decoded_path(now);
    return l;
}

}  // namespace

std::vector<OpenLayer> layers(const std::string& name) {
    const Task t = send(name, "layers");
    const char* answer = dm_task_get_message_response(t.get());
    std::vector<OpenLayer> out;
    std::istringstream lines(answer ? answer : "");
    for (std::string line; std::getline(lines, line);) out.push_back(open_layer(name, line));
    if (out.empty()) throw failed("{}: the target's list of layers is empty", escaped(name));
    return out;
}

std::vector<Device> list_if_any() {
    std::error_code none;
    for (const auto& block : std::filesystem::directory_iterator("/sys/class/block", none))
        if (block.path().filename().string().starts_with("dm-")) return list();
    return {};
}

std::vector<Device> list() {
    const Task t = make_task(DM_DEVICE_LIST, "");
    if (!dm_task_run(t.get())) throw dm_failed("device-mapper", "list the devices");
    std::vector<Device> out;
    const dm_names* n = dm_task_get_names(t.get());
    if (!n || !n->dev) return out;
    for (std::uint32_t next = 0;; n = reinterpret_cast<const dm_names*>(reinterpret_cast<const char*>(n) + next)) {
        const Task table = make_task(DM_DEVICE_TABLE, n->name);
        bool chain = false;
        // A device may go away between the two requests.
        if (dm_task_run(table.get()))
            each_target(table.get(), [&](std::uint64_t, std::uint64_t, const char* type, const char*) {
                chain |= std::string_view(type) == target;
            });
        if (chain) {
            const dm_info info = look_at(n->name);
            if (info.exists) out.push_back(device_of(n->name, info));
        }
        next = n->next;
        if (!next) break;
    }
    std::sort(out.begin(), out.end(), [](const Device& a, const Device& b) { return a.name < b.name; });
    return out;
}

std::string parameters(const std::string& name) { return line(name, true).parameters; }

std::string chain_file(const std::string& name) {
    const std::string all = parameters(name);
    return decoded_path(all.substr(0, all.find(' ')));
}

Status status(const std::string& name) {
    const Line l = line(name, false);
    Status s;
    s.sectors = l.length;
    std::istringstream words(l.parameters);
    auto pair = [&](std::uint64_t& first, std::uint64_t& second) {
        char slash = 0;
        words >> first >> slash >> second;
        if (slash != '/') words.setstate(std::ios::failbit);
    };
    words >> s.cluster_sectors >> s.subblock_sectors >> s.depth >> s.active >> s.mode >> s.needs_check;
    pair(s.nodes_resident, s.nodes_total);
    words >> s.index_bytes >> s.index_limit;
    pair(s.clusters_allocated, s.clusters_total);
    words >> s.commits >> s.log_bytes >> s.hits >> s.misses >> s.compressed_reads >> s.exchange;
    if (!words) throw failed("{}: the target's status is not what this tool knows: {}", escaped(name), escaped(l.parameters));
    return s;
}

}  // namespace dmchain::dm
