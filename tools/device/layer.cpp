// SPDX-License-Identifier: GPL-2.0-or-later
// See layer.hpp.
#include "device/layer.hpp"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "chain/disk.hpp"
#include "chain/owner.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/header_bytes.hpp"

#include "dm-chain-format.h"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

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

NewLayer::NewLayer(const std::string& path) {
    if (is_device(path)) return;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    // Shared, as others look whether somebody changes the chain. Where there are no locks nothing is taken for left behind.
    while (fd_ >= 0 && ::flock(fd_, LOCK_SH) != 0 && errno == EINTR) {}
}

NewLayer::~NewLayer() {
    if (fd_ >= 0) ::close(fd_);
}

bool NewLayer::is_there() const {
    struct stat st {};
    return fd_ >= 0 && ::fstat(fd_, &st) == 0 && st.st_nlink > 0;
}

NewLayer make_new_layer(const std::string& path, const qcow2::ActiveOptions& options) {
    for (;;) {
        qcow2::make_active(path, options);
        NewLayer layer(path);
        if (is_device(path) || layer.is_there()) return layer;
    }
}

NewLayer make_layer_on(const std::string& path, const std::string& image, const qcow2::Chain& chain) {
    check_layer_place(path);
    qcow2::ActiveOptions o;
    const chain::Geometry g = chain::geometry_at(chain, chain.layers().size() - 1);
    o.size = g.bytes;
    o.cluster_bits = g.cluster_shift;
    o.subblock_bits = g.subblock_shift;
    o.backing_name = qcow2::backing_name(lasting_name(path), lasting_name(image), !image.starts_with('/'));
    return make_new_layer(path, o);
}

NewLayer make_layer_on(const std::string& path, const Live& device, const std::string& active) {
    check_layer_place(path);
    const qcow2::Header header = qcow2::read_header(File(active), true);
    qcow2::ActiveOptions o;
    o.size = device.status.sectors * 512;
    o.cluster_bits = device.cluster_bits();
    o.subblock_bits = device.subblock_bits();
    // As its neighbour names its own: a chain that can be moved stays one.
    o.backing_name = qcow2::backing_name(lasting_name(path), lasting_name(active),
                                         header.backing_name && !header.backing_name->starts_with('/'));
    return make_new_layer(path, o);
}

qcow2::SealResult seal_layer(const std::string& path, const SealHow& how) {
    qcow2::SealOptions o;
    o.fill = how.fill;
    o.chain.allow = how.allow;
    o.chain.assume_raw = how.assume_raw;
    o.dry_run = how.dry_run;
    if (qcow2::is_in_use(File(path)) && !how.dry_run) chain::require_ours(path, how.take_over);
    std::optional<Progress> progress;
    o.progress = [&](std::uint64_t done, std::uint64_t all) {
        if (!progress) progress.emplace("sealing", all);
        progress->reach(done);
    };
    return qcow2::seal(path, o);
}

qcow2::SealResult seal_frozen(const Live& device, const dm::OpenLayer& layer, const SealHow& how) {
    const qcow2::SealResult result = seal_layer(name_of(layer, device.name), how);
    if (!how.dry_run) dm::message(device.name, fmt::format("sealed {}", layer.id));
    return result;
}

}  // namespace dmchain::device
