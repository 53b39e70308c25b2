// SPDX-License-Identifier: GPL-2.0-or-later
// See active.hpp.
#include "qcow2/active.hpp"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/header_bytes.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t first_blocks = 32u << 10;  // bytes; with the rest that a snapshot writes below 128 KiB

}  // namespace

LogId write_empty_log(Writable& to, std::uint32_t cluster_bits, std::uint32_t unit_bits, std::uint64_t sectors,
                      std::uint64_t segment_bytes, const std::optional<LogId>& given) {
    const std::uint64_t at = std::uint64_t{1} << cluster_bits;
    LogId id = given.value_or(LogId{});
    if (!given && ::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
        throw failed("{}: no random bytes for the log's id", escaped(to.path()));
    chain_log_head head{};
    std::memcpy(head.magic, CHAIN_LOG_MAGIC, sizeof head.magic);
    head.version = htole32(CHAIN_LOG_VERSION);
    std::memcpy(head.uuid, id.data(), id.size());
    head.sectors = htole64(sectors);
    head.segment_bytes = htole64(segment_bytes);
    head.cluster_shift = static_cast<__u8>(cluster_bits);
    head.unit_shift = static_cast<__u8>(unit_bits);
    head.crc = htole32(chain_crc32c_more(0, &head, sizeof head));
    to.write(&head, sizeof head, at);
    std::uint64_t zeroed = segment_bytes;
    if (at + sizeof head == to.size()) {
        // A new file: the rest is allocated, which takes no writing. A few blocks are written all the same, so that the
        // first commits do not wait for the file system to note that they are.
        zeroed = std::min(segment_bytes, first_blocks);
        to.allocate(at, segment_bytes);
    }
    to.write_zeroes(zeroed - sizeof head, at + sizeof head);
    return id;
}

namespace {

void fill(Writable& to, const ActiveOptions& o) {
    const std::uint64_t cluster = std::uint64_t{1} << o.cluster_bits;
    const std::uint64_t segment = std::max<std::uint64_t>(
        {first_segment_bytes, 4 * cluster, std::uint64_t{CHAIN_LOG_MIN_SEGMENT}, (o.log_bytes + cluster - 1) & ~(cluster - 1)});
    if (to.is_device() && to.size() < 2 * cluster + segment)
        throw failed("{}: the device has {} bytes, expected at least {} for an active layer", escaped(to.path()), to.size(),
                     2 * cluster + segment);
    Header h;
    h.cluster_bits = o.cluster_bits;
    h.size = o.size;
    h.incompatible = incompatible_in_use;
    h.sealed_unit_bits = chain_unit_shift(o.cluster_bits, o.subblock_bits);
    h.has_id_room = true;
    if (!o.backing_name.empty()) {
        h.backing_name = o.backing_name;
        h.backing_format = o.backing_format;
    }
    h.label_at = 0;  // header_bytes() knows where
    h.label = o.label;
    const auto header = header_bytes(h, to.path());
    write_empty_log(to, o.cluster_bits, *h.sealed_unit_bits, o.size >> 9, segment, o.id);
    if (to.is_device()) {
        // The header last: until it is durable this is no image. A file has a name only when all is there.
        to.write_zeroes(cluster - header.size(), header.size());
        to.sync();
    }
    to.write(header.data(), header.size(), 0);
    to.sync();
}

}  // namespace

void make_active(const std::string& path, const ActiveOptions& options) {
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode)) {
        Writable device = Writable::open(path);
        fill(device, options);
        return;
    }
    Writable file = Writable::create(path);
    try {
        fill(file, options);
        sync_folder_of(path);
    } catch (...) {
        ::unlink(path.c_str());
        throw;
    }
}

std::string next_layer_name(const std::string& image) {
    const fs::path path(image);
    std::string stem = path.stem().string();
    std::uint64_t number = 0;
    if (const std::size_t dot = stem.rfind('.'); dot != std::string::npos && dot > 0 && dot + 1 < stem.size() &&
                                                 stem.size() - dot <= 10 &&
                                                 stem.find_first_not_of("0123456789", dot + 1) == std::string::npos) {
        number = std::stoull(stem.substr(dot + 1));
        stem.resize(dot);
    }
    const std::string extension = path.has_extension() ? path.extension().string() : ".qcow2";
    fs::path next;
    std::error_code none;
    do next = path.parent_path() / fmt::format("{}.{}{}", stem, ++number, extension);
    while (fs::exists(fs::symlink_status(next, none)));
    return next.string();
}

}  // namespace dmchain::qcow2
