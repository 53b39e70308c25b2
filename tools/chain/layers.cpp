// SPDX-License-Identifier: GPL-2.0-or-later
// Layer records: who the files are, so that the target can tell whether they still are.
#include "chain/layers.hpp"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/mapped_device.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

std::uint32_t head_crc(const File& file) {
    std::array<std::byte, 4096> head{};
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), file.size()));
    file.read(head.data(), n, 0);
    return chain_crc32c_more(0, head.data(), n);
}

std::uint32_t volume_of(const Identity& who) {
    const auto mapped = who.block_device ? mapped_device(who.special) : std::nullopt;
    const std::string id = mapped ? mapped->volume() : std::string();
    return id.empty() ? 0 : chain_crc32c_more(0, id.data(), id.size());
}

LayerTable::LayerTable(const qcow2::Chain& chain) {
    for (const auto& layer : chain.layers()) {
        const auto id = static_cast<std::uint16_t>(records.size() + 1);
        add(layer->file(), *layer, CHAIN_NO_LAYER);
        if (layer->data_file()) add(*layer->data_file(), *layer, id);
        ids.push_back({id, static_cast<std::uint16_t>(records.size())});
    }
}

void LayerTable::add(const File& file, const qcow2::Layer& layer, std::uint16_t owner) {
    if (records.size() == CHAIN_MAX_LAYERS)
        throw failed("{}: the chain has more than {} files, which is what a chain file can hold", escaped(file.path()),
                     CHAIN_MAX_LAYERS);
    const Identity& who = file.identity();
    const bool image = owner == CHAIN_NO_LAYER && layer.format() == qcow2::Format::qcow2;
    chain_layer r{};
    r.id = htole16(static_cast<std::uint16_t>(records.size() + 1));
    r.type = who.block_device ? CHAIN_LAYER_DEVICE : CHAIN_LAYER_FILE;
    r.format = image ? CHAIN_FORMAT_QCOW2 : CHAIN_FORMAT_RAW;
    r.compression = layer.compression() == qcow2::Compression::zstd ? CHAIN_ZSTD : CHAIN_ZLIB;
    r.cluster_shift = image ? static_cast<__u8>(layer.cluster_bits()) : 0;
    r.owner = htole16(owner);
    r.bytes = htole64(who.bytes);
    const bool unsealed = image && layer.image()->log();
    if (unsealed) {
        r.flags = htole32(CHAIN_LAYER_UNSEALED);
        std::memcpy(r.log, layer.image()->log()->id().data(), sizeof r.log);
    } else {
        r.head_crc = htole32(head_crc(file));
        // A device has no time of modification: its first bytes stand for it.
        if (who.block_device) r.flags = htole32(CHAIN_LAYER_HAS_HEAD_CRC);
    }
    r.volume = htole32(volume_of(who));
    if (!who.block_device) {
        r.inode = htole64(who.inode);
        r.mtime_sec = htole64(static_cast<std::uint64_t>(who.mtime_sec));
        r.mtime_nsec = htole32(who.mtime_nsec);
    }
    name(r, lasting_name(file.name()));
    records.push_back(r);
}

void LayerTable::name(chain_layer& r, const std::string& path) {
    if (path.size() > CHAIN_MAX_PATH)
        throw failed("{}: path of {} bytes: at most {} are possible", escaped(path), path.size(), CHAIN_MAX_PATH);
    r.path_offset = htole32(static_cast<std::uint32_t>(strings.size()));
    r.path_bytes = htole16(static_cast<std::uint16_t>(path.size()));
    strings.append(path).push_back('\0');
}

void LayerTable::name_home(const std::string& path) {
    chain_layer r{};
    name(r, path);
    home = le32toh(r.path_offset);
    home_bytes = le16toh(r.path_bytes);
}

std::vector<std::byte> LayerTable::bytes() const {
    std::vector<std::byte> out(records.size() * sizeof(chain_layer) + strings.size());
    std::memcpy(out.data(), records.data(), records.size() * sizeof(chain_layer));
    std::memcpy(out.data() + records.size() * sizeof(chain_layer), strings.data(), strings.size());
    return out;
}

}  // namespace dmchain::chain
