// SPDX-License-Identifier: GPL-2.0-or-later
// See piece_reader.hpp.
#include "replica/piece_reader.hpp"

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"

namespace dmchain::replica {

namespace {

// Each has a piece, and the same compressed.
constexpr unsigned threads = 4;

}  // namespace

void PieceReader::each(const std::vector<std::uint32_t>& numbers,
                       FunctionRef<void(std::size_t, const std::vector<unsigned char>&)> use, const std::vector<bool>& may_lose) {
    share_out(numbers.size(), threads, [&](Turns& turns, bool) {
        const chain::ReadDisk disk = disk_ ? disk_() : nullptr;
        std::vector<unsigned char> data;
        while (const auto i = turns.next()) {
            read(numbers[*i], disk, !may_lose.empty() && may_lose[numbers[*i]], data);
            turns.in_order(*i, [&] { use(*i, data); });
        }
    });
}

void PieceReader::read(std::size_t number, const chain::ReadDisk& disk, bool may_lose, std::vector<unsigned char>& to) {
    const Piece& p = m_.pieces[number];
    bool damaged_one = false;
    // What was only noted as being on the disk is not looked for elsewhere.
    for (const Place& f : places_) {
        if (!p.folders) break;
        const auto found = f.read(p, to);
        if (found == Place::Found::right) return;
        if (found == Place::Found::damaged) {
            damaged_copies_++;
            damaged_one = true;
        }
    }
    if (p.disk != Piece::no_disk && disk) {
        to.resize(p.bytes);
        disk(to.data(), to.size(), p.disk);
        if (digest_of(to.data(), to.size()) == p.digest) {
            disk_bytes_ += p.bytes;
            return;
        }
        throw damaged("the disk is not what it was when {} was stored: {} bytes at {:#x} are others (they are {})",
                      in_quotes(m_.name), p.bytes, p.disk, content_of(m_, number));
    }
    if (may_lose) {
        to.clear();
        return;
    }
    throw damaged("{}: piece {} has no copy left{}: it has {}", in_quotes(m_.name), text_of(p.digest),
                  damaged_one ? " that is not damaged" : "", content_of(m_, number));
}

std::string content_of(const Manifest& m, std::size_t piece) {
    std::map<std::string, std::uint64_t> pages;
    bool devices = false;
    for (const Run& r : m.runs) {
        if (r.piece != piece) continue;
        if (r.kind == Run::Kind::piece) pages[m.layer ? "the disk" : name_of(r.class_of)] += r.pages;
        if (r.kind == Run::Kind::head || r.kind == Run::Kind::tail) devices = true;
    }
    std::string out = devices ? "the state of the devices" : "";
    for (const auto& [name, n] : pages) out += fmt::format("{}{} of {}", out.empty() ? "" : ", ", counted(n, "page"), name);
    return out;
}

}  // namespace dmchain::replica
