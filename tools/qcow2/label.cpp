// SPDX-License-Identifier: GPL-2.0-or-later
// See label.hpp.
#include "qcow2/label.hpp"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

namespace {

constexpr char label_magic[] = "DMCHSNP\n";

// Big-endian, as all of a qcow2 header.
struct Sector {
    char magic[8];
    std::uint32_t crc;  // CRC-32C of the sector with this field 0
    std::uint16_t name_bytes;
    std::uint16_t note_bytes;
    std::int64_t time;
    char text[label_sector - 25];  // the name, then the note
    std::uint8_t flags;
};
constexpr std::uint8_t flag_pruned = 1;
static_assert(sizeof(Sector) == label_sector);
static_assert(max_label_name + max_label_note <= sizeof(Sector::text));

std::uint32_t crc_of(Sector s) {
    s.crc = 0;
    return chain_crc32c_more(0, &s, sizeof s);
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }

}  // namespace

void check_label(const Label& label) {
    const std::string& n = label.name;
    const auto refuse = [&](const std::string& why) {
        throw Error(Exit::usage, fmt::format("{}: cannot be the name of a snapshot: {}", in_quotes(n), why));
    };
    if (n.size() > max_label_name) refuse(fmt::format("it has {} bytes, expected at most {}", n.size(), max_label_name));
    if (!n.empty() && n.find_first_not_of("0123456789") == std::string::npos) refuse("a number means a layer");
    if (n.starts_with('-') || n.starts_with('.')) refuse("expected a letter or a digit at the beginning");
    if (n.find_first_of("/@,*? ") != std::string::npos || std::any_of(n.begin(), n.end(), is_control))
        refuse("expected none of / @ , * ? and no blanks or control characters");
    if (label.note.size() > max_label_note)
        throw Error(Exit::usage, fmt::format("the note has {} bytes, expected at most {}", label.note.size(), max_label_note));
    if (std::any_of(label.note.begin(), label.note.end(), is_control))
        throw Error(Exit::usage, "the note has a control character, expected one line of text");
}

std::array<unsigned char, label_sector> label_bytes(const std::optional<Label>& label) {
    std::array<unsigned char, label_sector> out{};
    if (!label) return out;
    Sector s{};
    std::memcpy(s.magic, label_magic, sizeof s.magic);
    s.name_bytes = htobe16(static_cast<std::uint16_t>(label->name.size()));
    s.note_bytes = htobe16(static_cast<std::uint16_t>(label->note.size()));
    s.time = static_cast<std::int64_t>(htobe64(static_cast<std::uint64_t>(label->time)));
    s.flags = label->pruned ? flag_pruned : 0;
    std::memcpy(s.text, label->name.data(), label->name.size());
    std::memcpy(s.text + label->name.size(), label->note.data(), label->note.size());
    s.crc = htobe32(crc_of(s));
    std::memcpy(out.data(), &s, sizeof s);
    return out;
}

std::optional<Label> parse_label(const unsigned char* sector) {
    Sector s;
    std::memcpy(&s, sector, sizeof s);
    const std::size_t name = be16toh(s.name_bytes), note = be16toh(s.note_bytes);
    if (std::memcmp(s.magic, label_magic, sizeof s.magic) != 0 || be32toh(s.crc) != crc_of(s) || name > max_label_name ||
        note > max_label_note)
        return std::nullopt;
    Label out{static_cast<std::int64_t>(be64toh(static_cast<std::uint64_t>(s.time))), std::string(s.text, name),
              std::string(s.text + name, note), (s.flags & flag_pruned) != 0};
    try {
        check_label(out);
    } catch (const Error&) {
        return std::nullopt;
    }
    return out;
}

void write_label(const std::string& path, const Label& label) {
    check_label(label);
    const Header h = read_header(File(path), true);
    if (!h.label_at)
        throw failed("{}: has no room for a name: it was made by an older version of dmchain, or by another program",
                     escaped(path));
    Writable to = Writable::open(path);
    const auto bytes = label_bytes(label);
    to.write(bytes.data(), bytes.size(), *h.label_at);
    to.sync();
}

}  // namespace dmchain::qcow2
