// SPDX-License-Identifier: GPL-2.0-or-later
// See layers.hpp.
#include "commands/layers.hpp"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>

#include "chain/builder.hpp"
#include "chain/recover.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/active.hpp"
#include "qcow2/header_bytes.hpp"

namespace dmchain::commands {

namespace fs = std::filesystem;

namespace {

// The name by which an image is named in a header: absolute, but links stay: /dev/VG/LV outlives what it leads to.
std::string lasting_name(const std::string& path) { return fs::absolute(path).lexically_normal().string(); }

bool is_device(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode);
}

// What libblkid or the qcow2 magic say of a device, or "".
std::string content_of_device(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
    const File file(fd, path);
    if (qcow2::has_magic(file)) return "a qcow2 image";
    const std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)> probe(blkid_new_probe(), blkid_free_probe);
    if (!probe || blkid_probe_set_device(probe.get(), fd, 0, 0) != 0)
        throw failed("{}: libblkid cannot look at it", escaped(path));
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_enable_partitions(probe.get(), 1);
    const int found = blkid_do_safeprobe(probe.get());
    if (found == 1) return "";
    if (found != 0) return "what libblkid cannot tell";
    for (const char* name : {"TYPE", "PTTYPE"}) {
        const char* value = nullptr;
        if (blkid_probe_lookup_value(probe.get(), name, &value, nullptr) == 0 && value) return in_quotes(value);
    }
    return "something";
}

// The target may be writing it: a copy that is torn now is whole a moment later.
chain::ChainFile read_live(const std::string& path) {
    for (int turn = 0;; turn++) {
        try {
            return chain::ChainFile(File(path));
        } catch (const Error& e) {
            if (e.code() != Exit::damaged || turn == 20) throw;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
}

std::uint16_t active_of(const dm::Status& s) { return s.active == "-" ? 0 : static_cast<std::uint16_t>(std::stoul(s.active)); }

Live live_of(const std::string& name, const dm::Status& status) {
    const std::string path = dm::chain_file(name);
    const chain::ChainFile file = read_live(path);
    Live l{name, path, active_of(status), "", {}, file.sectors(), file.super().cluster_shift, file.super().subblock_shift};
    for (const chain_layer& r : file.layers()) {
        const std::uint16_t id = chain_le16(r.id);
        if (id == l.active)
            l.active_path = file.path(r);
        else if (chain_le32(r.flags) & CHAIN_LAYER_UNSEALED)
            l.frozen.push_back({id, file.path(r)});
    }
    if (chain_le16(file.super().active) != l.active) l.active_path.clear();
    return l;
}

}  // namespace

void check_layer_place(const std::string& path) {
    std::error_code none;
    if (is_device(path)) {
        if (const std::string what = content_of_device(path); !what.empty())
            throw failed("{}: the device holds {}: if that can go, clear it with 'wipefs -a' or 'blkdiscard' first",
                         escaped(path), what);
    } else if (fs::exists(fs::symlink_status(path, none))) {
        throw failed("{}: exists: name another place for the layer with --layer", escaped(path));
    }
}

void make_layer_on(const std::string& path, const std::string& image, const qcow2::Chain& chain) {
    check_layer_place(path);
    qcow2::ActiveOptions o;
    o.size = chain.virtual_size();
    o.cluster_bits = chain::index_cluster_bits;
    o.subblock_bits = std::min<unsigned>(CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(__builtin_ctz(chain.unit())));
    o.backing_name = qcow2::backing_name(lasting_name(path), lasting_name(image), !image.starts_with('/'));
    qcow2::make_active(path, o);
}

Live look_at_live(const std::string& name) {
    const dm::Status status = dm::status(name);
    if (!active_of(status)) throw failed("{}: the device has no active layer: it can only be read", escaped(name));
    Live l = live_of(name, status);
    // A snapshot is in the logs; the chain file follows with a commit. There may be another one meanwhile.
    for (int turn = 0; l.active_path.empty() && turn < 20; turn++) {
        dm::message(name, "commit");
        l = live_of(name, dm::status(name));
    }
    if (l.active_path.empty())
        throw failed("{}: its chain file {} does not name the active layer {}", escaped(name), escaped(l.chain_path), l.active);
    return l;
}

void add_seal_options(CLI::App& command, SealHow& how) {
    command.add_flag("--no-subclusters", how.fill,
                     "Fill clusters that the layer owns in part from the layers below, instead of using extended L2 entries");
    command.add_option("--allow", how.allow, "Folder (or file) outside the layer's own folder that images may name; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    command.add_flag("--assume-raw", how.assume_raw, "Take a backing file without a declared format for raw if it is not qcow2");
}

qcow2::SealResult seal_layer(const std::string& path, const SealHow& how) {
    qcow2::SealOptions o;
    o.fill = how.fill;
    o.chain.allow = how.allow;
    o.chain.assume_raw = how.assume_raw;
    o.dry_run = how.dry_run;
    std::optional<Progress> progress;
    std::uint64_t shown = 0;
    o.progress = [&](std::uint64_t done, std::uint64_t all) {
        if (!progress) progress.emplace("sealing", all);
        progress->add(done - shown);
        shown = done;
    };
    return qcow2::seal(path, o);
}

qcow2::SealResult seal_frozen(const Live& device, const Unsealed& layer, const SealHow& how) {
    const qcow2::SealResult result = seal_layer(layer.path, how);
    if (!how.dry_run) dm::message(device.name, fmt::format("sealed {}", layer.id));
    return result;
}

std::optional<std::pair<Live, Unsealed>> device_of_frozen(const std::string& path) {
    const Identity who = File(path).identity();
    const auto is_it = [&](const std::string& other) {
        std::error_code none;
        return fs::exists(other, none) && File(other).identity().same_file(who);
    };
    for (const dm::Device& d : dm::list_if_any()) {
        const dm::Status status = dm::status(d.name);
        if (!active_of(status)) continue;
        const Live l = look_at_live(d.name);
        if (is_it(l.active_path))
            throw failed("{}: is the active layer of the device {}: take a snapshot, or remove the device, first", escaped(path),
                         escaped(d.name));
        for (const Unsealed& u : l.frozen)
            if (is_it(u.path)) return std::pair(l, u);
    }
    return std::nullopt;
}

std::vector<std::string> unsealed_of(const chain::ChainFile& file, const std::vector<std::string>& allow) {
    std::vector<std::string> out;
    for (const chain_layer& r : file.layers()) {
        if (!(chain_le32(r.flags) & CHAIN_LAYER_UNSEALED) || r.id == file.super().active) continue;
        const std::string path = file.path(r);
        // Frozen layers may have been sealed since; then nothing is left to do.
        if (qcow2::is_in_use(File(path))) out.push_back(path);
    }
    if (!file.active()) return out;
    const std::string active = file.path(*file.active());
    if (!qcow2::is_in_use(File(active))) return out;
    qcow2::ChainOptions options;
    options.allow = allow;
    const chain::Top top = chain::find_top(active, options);
    for (const std::string& p : top.passed)
        if (std::find(out.begin(), out.end(), p) == out.end()) out.push_back(p);
    out.push_back(top.path);
    return out;
}

}  // namespace dmchain::commands
