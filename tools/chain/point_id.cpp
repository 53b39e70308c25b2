// SPDX-License-Identifier: GPL-2.0-or-later
// See point_id.hpp.
#include "chain/point_id.hpp"

#include <endian.h>
#include <fmt/format.h>

#include <cstring>

#include "chain/layers.hpp"
#include "io/crc32c.hpp"

namespace dmchain::chain {

namespace {

// What stays when a file is renamed, moved, or copied with its time.
struct Traits {
    std::uint64_t bytes, mtime_sec, mtime_nsec, volume, head_crc;
};

Traits traits_of(const File& file) {
    const Identity& who = file.identity();
    Traits t{htole64(who.bytes), 0, 0, 0, htole64(head_crc(file))};
    if (who.block_device) {
        t.volume = htole64(volume_of(who));
    } else {
        t.mtime_sec = htole64(static_cast<std::uint64_t>(who.mtime_sec));
        t.mtime_nsec = htole64(who.mtime_nsec);
    }
    return t;
}

// FNV-1a, 64 bits: beside the CRC, another function of the same bytes.
std::uint64_t fnv(const void* data, std::size_t bytes) {
    std::uint64_t h = 0xcbf29ce484222325;
    for (std::size_t i = 0; i < bytes; i++) h = (h ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3;
    return h;
}

}  // namespace

qcow2::LayerId point_id(const qcow2::Layer& layer) {
    if (const qcow2::Image* image = layer.image()) {
        if (image->log()) return image->log()->id();
        if (image->header().sealed_id) return *image->header().sealed_id;
    }
    Traits t[2] = {traits_of(layer.file()), {}};
    if (layer.data_file()) t[1] = traits_of(*layer.data_file());
    const std::uint32_t head = htole32(static_cast<std::uint32_t>(le64toh(t[0].head_crc)));
    const std::uint32_t crc = htole32(chain_crc32c_more(0, t, sizeof t));
    const std::uint64_t hash = htole64(fnv(t, sizeof t));
    qcow2::LayerId id;
    std::memcpy(id.data(), &head, 4);
    std::memcpy(id.data() + 4, &crc, 4);
    std::memcpy(id.data() + 8, &hash, 8);
    return id;
}

std::string text_of(const qcow2::LayerId& id) {
    std::string out;
    for (const unsigned char c : id) out += fmt::format("{:02x}", c);
    return out;
}

}  // namespace dmchain::chain
