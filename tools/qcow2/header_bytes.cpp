// SPDX-License-Identifier: GPL-2.0-or-later
// See header_bytes.hpp.
#include "qcow2/header_bytes.hpp"

#include <algorithm>
#include <cstring>

#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/format.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {
namespace {

constexpr std::uint32_t header_length = 104, length_with_compression = 112;

// So that whoever refuses a feature, or meets one of ours, can say its name.
struct FeatureName {
    unsigned char type;  // 0 incompatible, 1 compatible, 2 autoclear
    unsigned char bit;
    const char* name;  // at most 46 bytes
};
constexpr FeatureName feature_names[] = {
    {0, 0, "dirty bit"},           {0, 1, "corrupt bit"},
    {0, 2, "external data file"},  {0, 3, "compression type"},
    {0, 4, "extended L2 entries"}, {0, CHAIN_QCOW2_IN_USE_BIT, CHAIN_QCOW2_IN_USE_NAME},
    {1, 0, "lazy refcounts"},      {2, 0, "bitmaps"},
    {2, 1, "raw external data"},   {2, 63, "sealed by dm-chain"},
};
static_assert(sizeof CHAIN_QCOW2_IN_USE_NAME <= 47);

class Block {
public:
    explicit Block(std::uint32_t length) : bytes_(header_block), next_(length) { put32(100, length); }

    void put32(std::size_t at, std::uint32_t v) {
        v = htobe32(v);
        std::memcpy(&bytes_[at], &v, sizeof v);
    }
    void put64(std::size_t at, std::uint64_t v) {
        v = htobe64(v);
        std::memcpy(&bytes_[at], &v, sizeof v);
    }
    // Extensions and the name stand one after the other.
    void extension(std::uint32_t type, const std::string& data) {
        put32(next_, type);
        put32(next_ + 4, static_cast<std::uint32_t>(data.size()));
        std::memcpy(&bytes_[next_ + 8], data.data(), data.size());
        next_ += 8 + (data.size() + 7) / 8 * 8;
    }
    // An extension whose data end with a sector of its own.
    void sector(std::uint32_t type, const std::array<unsigned char, label_sector>& data) {
        const std::size_t begin = (next_ + 8 + label_sector - 1) / label_sector * label_sector;
        std::string bytes(begin - (next_ + 8), '\0');
        bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
        extension(type, bytes);
    }
    std::size_t text(const std::string& s) {
        const std::size_t at = next_;
        std::memcpy(&bytes_[at], s.data(), s.size());
        next_ += s.size();
        return at;
    }
    std::vector<unsigned char> take() { return std::move(bytes_); }

private:
    std::vector<unsigned char> bytes_;
    std::size_t next_;
};

std::string names() {
    std::string all;
    for (const FeatureName& f : feature_names) {
        std::string entry = {static_cast<char>(f.type), static_cast<char>(f.bit)};
        entry += f.name;
        entry.resize(48);
        all += entry;
    }
    return all;
}

}  // namespace

std::vector<unsigned char> header_bytes(const Header& h, const std::string& name) {
    const bool compression = h.incompatible & incompatible_compression;
    Block b(compression ? length_with_compression : header_length);
    b.put32(0, magic);
    b.put32(4, 3);
    b.put32(20, h.cluster_bits);
    b.put64(24, h.size);
    b.put32(36, h.l1_entries);
    b.put64(40, h.l1_offset);
    b.put64(48, h.refcount_table_offset);
    b.put32(56, h.refcount_table_clusters);
    b.put64(72, h.incompatible);
    b.put64(80, 0);
    b.put64(88, h.in_use() ? 0 : autoclear_sealed);
    b.put32(96, h.refcount_order);
    if (compression) b.put32(104, static_cast<std::uint32_t>(h.compression) << 24);
    if (h.backing_format) b.extension(extension_backing_format, *h.backing_format);
    const LayerId id = h.sealed_id.value_or(LayerId{});
    std::string sealed(h.has_id_room ? 4 + id.size() : 4, '\0');
    sealed[3] = static_cast<char>(h.sealed_unit_bits.value_or(0));
    if (h.has_id_room) std::copy(id.begin(), id.end(), sealed.begin() + 4);
    b.extension(extension_sealed, sealed);
    b.extension(extension_feature_names, names());
    if (h.label_at) b.sector(extension_label, label_bytes(h.label));
    b.extension(extension_end, "");
    if (h.backing_name) {
        if (h.backing_name->size() > max_backing_name)
            throw failed("{}: the name of its backing file, {}, has {} bytes, expected at most {}", escaped(name),
                         in_quotes(*h.backing_name), h.backing_name->size(), max_backing_name);
        b.put64(8, b.text(*h.backing_name));
        b.put32(16, static_cast<std::uint32_t>(h.backing_name->size()));
    }
    return b.take();
}

std::string backing_name(const std::string& layer, const std::string& backing, bool relative) {
    const std::size_t slash = backing.rfind('/');
    if (!relative || layer.compare(0, slash + 1, backing, 0, slash + 1) != 0 || layer.find('/', slash + 1) != std::string::npos)
        return backing;
    const std::string file = backing.substr(slash + 1);
    // "a:b" would be taken for a protocol, "json:..." for more than a name.
    return file.find(':') == std::string::npos ? file : "./" + file;
}

}  // namespace dmchain::qcow2
