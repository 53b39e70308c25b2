// SPDX-License-Identifier: GPL-2.0-or-later
// See libvirt.hpp. Numbers have the byte order of the host, which is little-endian.
#include "guest/libvirt.hpp"

#include <array>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

struct HeaderBytes {
    char magic[16];
    std::uint32_t version;
    std::uint32_t data_bytes;  // of XML, cookie and padding behind the header
    std::uint32_t was_running;
    std::uint32_t format;
    std::uint32_t cookie;  // where in these bytes the cookie is; 0: there is none
    std::uint32_t unused[14];
};
static_assert(sizeof(HeaderBytes) == 92);

constexpr char whole[] = "LibvirtQemudSave", cut_off[] = "LibvirtQemudPart";
constexpr std::uint32_t known_version = 2;
// By number; "": not compressed.
constexpr std::array<const char*, 7> formats = {"", "gzip", "bzip2", "xz", "lzop", "zstd", ""};
constexpr std::uint32_t format_sparse = 6;

}  // namespace

std::optional<LibvirtFile> read_libvirt(const Source& source) {
    HeaderBytes h;
    if (source.size() < sizeof h.magic) return std::nullopt;
    source.read(h.magic, sizeof h.magic, 0);
    const bool is_cut_off = std::memcmp(h.magic, cut_off, sizeof h.magic) == 0;
    if (!is_cut_off && std::memcmp(h.magic, whole, sizeof h.magic) != 0) return std::nullopt;
    const std::string name = escaped(source.name());
    if (is_cut_off) throw damaged("{}: was cut off: libvirt did not complete it; save the machine again", name);
    if (source.size() < sizeof h) throw damaged("{}: was cut off: ends at byte {} in the header of libvirt", name, source.size());
    source.read(&h, sizeof h, 0);
    if (h.version != known_version)
        throw failed("{}: has version {} of libvirt's file, expected {}", name, h.version, known_version);
    if (h.format >= formats.size())
        throw failed("{}: has the format number {} of libvirt, expected at most {}", name, h.format, formats.size() - 1);
    if (h.data_bytes == 0 || h.data_bytes > source.size() - sizeof h || h.cookie > h.data_bytes)
        throw damaged("{}: has {} bytes, and says that {} of them are the machine's XML, with a cookie at {}", name,
                      source.size(), h.data_bytes, h.cookie);
    LibvirtFile file{sizeof h + h.data_bytes};
    file.mapped = h.format == format_sparse;
    if (*formats[h.format]) file.program = formats[h.format];
    return file;
}

std::vector<unsigned char> uncompressed_header(const Source& source, const LibvirtFile& file) {
    std::vector<unsigned char> out(file.stream);
    source.read(out.data(), out.size(), 0);
    const std::uint32_t raw = 0;
    std::memcpy(&out[offsetof(HeaderBytes, format)], &raw, sizeof raw);
    return out;
}

}  // namespace dmchain::guest
