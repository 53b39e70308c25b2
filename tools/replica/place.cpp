// SPDX-License-Identifier: GPL-2.0-or-later
// See place.hpp.
#include "replica/place.hpp"

#include <algorithm>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/compression.hpp"

namespace dmchain::replica {

namespace {

constexpr std::string_view packed_suffix = ".zst";

}  // namespace

bool is_name(const std::string& name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::strchr(".-_:", c);
    };
    return !name.empty() && name.size() <= 100 && name[0] != '.' && std::all_of(name.begin(), name.end(), fits);
}

void Place::require_store() const {
    if (!is_store()) throw failed("{}: is no store of dmchain: there is no {} in it", escaped(name_), mark);
}

std::string Place::piece_name(const Digest& digest, bool packed) { return text_of(digest).append(packed ? packed_suffix : ""); }

std::optional<Place::PieceName> Place::parse_piece_name(const std::string& name) {
    const bool packed = name.ends_with(packed_suffix);
    const auto digest = parse_digest(packed ? name.substr(0, name.size() - packed_suffix.size()) : name);
    if (!digest) return std::nullopt;
    return PieceName{*digest, packed};
}

Place::Found Place::read(const Piece& piece, std::vector<unsigned char>& to) const {
    Found found = Found::missing;
    for (const bool packed : {false, true}) {
        std::optional<std::vector<unsigned char>> bytes;
        try {
            bytes = read_piece(piece.digest, packed, piece.bytes);
        } catch (const Error&) {
            found = Found::damaged;  // a bad sector, or no right to read: the same as no copy
            continue;
        }
        if (!bytes) continue;
        found = Found::damaged;
        const bool whole = packed ? decompress(*bytes, piece.bytes, to) : bytes->size() == piece.bytes;
        if (!whole) continue;
        if (!packed) to = std::move(*bytes);
        if (digest_of(to.data(), to.size()) == piece.digest) return Found::right;
    }
    return found;
}

std::optional<Manifest> Place::read_manifest(const std::string& name, Kind kind) const {
    if (!has_file(name, kind)) return std::nullopt;
    const std::string from = escaped(file_name(name, kind));
    Manifest m = Manifest::unpack(read_file(name, kind), from);
    if (m.name != name || m.layer.has_value() != (kind == Kind::layer))
        throw damaged("{}: is of the {} {}", from, m.layer ? "layer" : "snapshot", in_quotes(m.name));
    return m;
}

}  // namespace dmchain::replica
