// SPDX-License-Identifier: GPL-2.0-or-later
// See backing.hpp. The name goes where the first cluster has nothing; then the sector that says where it is.
#include "qcow2/backing.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "io/file.hpp"
#include "io/text.hpp"
#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

namespace {

constexpr std::uint64_t first_place = 4096, place_bytes = 2048;  // headers and extensions lie before
constexpr std::uint64_t most_places = 8;
constexpr std::uint64_t head_bytes = 512;  // what a disk writes at once
constexpr std::uint64_t marker_bytes = 8;  // of the end of extensions

// A small first cluster: the name lies right behind the extensions, or behind the one that was there before.
bool is_small(const Header& h) { return h.cluster_size() <= first_place; }

// Byte of the first cluster where there is room for a name of @name_bytes.
std::optional<std::uint64_t> find_place(const File& file, const Header& h, std::uint64_t name_bytes) {
    const std::uint64_t marker = h.has_extension_end ? 0 : marker_bytes;
    const std::uint64_t first = is_small(h) ? (h.extensions_end + marker + 7) & ~std::uint64_t{7} : first_place;
    const std::uint64_t step = is_small(h) ? 8 : place_bytes, need = is_small(h) ? name_bytes : place_bytes;
    const std::uint64_t end = std::min(h.cluster_size(), first_place + most_places * place_bytes);
    for (std::uint64_t at = first; at + need <= end; at += step) {
        std::vector<unsigned char> bytes(need);
        file.read_padded(bytes.data(), bytes.size(), at);
        if (std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return c == 0; })) return at;
    }
    return std::nullopt;
}

// Where the name goes. Throws failed() if it goes nowhere.
std::uint64_t place_for(const std::string& name, const File& file, const Header& h, const std::string& path) {
    if (name.size() > max_backing_name)
        throw failed("{}: the name of its backing file would have {} bytes, expected at most {}", escaped(path), name.size(),
                     max_backing_name);
    if (!h.has_extension_end && h.extensions_end + marker_bytes > head_bytes)
        throw failed(
            "{}: its header extensions have no end, but that the backing file name begins at {:#x}: use 'qemu-img rebase -u'",
            escaped(path), h.extensions_end);
    const auto place = find_place(file, h, name.size());
    if (!place)
        throw failed("{}: its first cluster of {} bytes has no room for another backing file name: use 'qemu-img rebase -u'",
                     escaped(path), h.cluster_size());
    return *place;
}

}  // namespace

void check_backing_name(const std::string& path, const std::string& name) {
    const File file(path);
    place_for(name, file, read_header(file), path);
}

void set_backing_name(Writable& to, const std::string& name) {
    const File file(to.path());
    const Header h = read_header(file);
    const std::uint64_t at = place_for(name, file, h, to.path());
    to.write(name.data(), name.size(), at);
    to.sync();
    std::array<unsigned char, head_bytes> head{};
    file.read(head.data(), head.size(), 0);
    const std::uint64_t before = be64(&head[8]), end_before = before + be32(&head[16]);
    const std::uint64_t offset = htobe64(at);
    const std::uint32_t bytes = htobe32(static_cast<std::uint32_t>(name.size()));
    std::memcpy(&head[8], &offset, 8);
    std::memcpy(&head[16], &bytes, 4);
    // Extensions may have ended where the name began. Nothing else says so.
    if (!h.has_extension_end) std::memset(&head[h.extensions_end], 0, marker_bytes);
    // The old place can be used again.
    const bool clear = before >= (is_small(h) ? h.extensions_end : first_place);
    if (clear && before < head.size()) std::memset(&head[before], 0, std::min<std::uint64_t>(end_before, head.size()) - before);
    to.write(head.data(), head.size(), 0);
    to.sync();
    const std::uint64_t rest = std::max<std::uint64_t>(before, head.size());
    if (!clear || end_before <= rest) return;
    to.write_zeroes(end_before - rest, rest);
    to.sync();
}

}  // namespace dmchain::qcow2
