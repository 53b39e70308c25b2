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

// Byte of the first cluster where there is room.
std::optional<std::uint64_t> find_place(const File& file, const Header& h) {
    const std::uint64_t end = std::min(h.cluster_size(), first_place + most_places * place_bytes);
    for (std::uint64_t at = first_place; at + place_bytes <= end; at += place_bytes) {
        std::array<unsigned char, place_bytes> bytes{};
        file.read_padded(bytes.data(), bytes.size(), at);
        if (std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return c == 0; })) return at;
    }
    return std::nullopt;
}

}  // namespace

void check_backing_name(const std::string& path, const std::string& name) {
    const File file(path);
    const Header h = read_header(file);
    if (name.size() > max_backing_name)
        throw failed("{}: the name of its backing file would have {} bytes, expected at most {}", escaped(path), name.size(),
                     max_backing_name);
    if (!find_place(file, h))
        throw failed("{}: its first cluster of {} bytes has no room for another backing file name: use 'qemu-img rebase -u'",
                     escaped(path), h.cluster_size());
}

void set_backing_name(Writable& to, const std::string& name) {
    check_backing_name(to.path(), name);
    const File file(to.path());
    const std::uint64_t at = *find_place(file, read_header(file));
    to.write(name.data(), name.size(), at);
    to.sync();
    std::array<unsigned char, 512> head{};
    file.read(head.data(), head.size(), 0);
    const std::uint64_t before = be64(&head[8]), bytes_before = be32(&head[16]);
    const std::uint64_t offset = htobe64(at);
    const std::uint32_t bytes = htobe32(static_cast<std::uint32_t>(name.size()));
    std::memcpy(&head[8], &offset, 8);
    std::memcpy(&head[16], &bytes, 4);
    to.write(head.data(), head.size(), 0);
    to.sync();
    // Its place can be used again.
    if (before < first_place) return;
    to.write_zeroes(bytes_before, before);
    to.sync();
}

}  // namespace dmchain::qcow2
