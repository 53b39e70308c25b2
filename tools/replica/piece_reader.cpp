// SPDX-License-Identifier: GPL-2.0-or-later
// See piece_reader.hpp.
#include "replica/piece_reader.hpp"

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

const std::vector<unsigned char>& PieceReader::read(std::size_t number) {
    const Piece& p = m_.pieces[number];
    done_.pieces++;
    bool damaged_one = false;
    // What was only noted as being on the disk is not looked for elsewhere.
    for (const Place& f : places_) {
        if (!p.folders) break;
        const auto found = f.read(p, data_);
        if (found == Place::Found::right) return data_;
        if (found == Place::Found::damaged) {
            done_.damaged_copies++;
            damaged_one = true;
        }
    }
    if (p.disk != Piece::no_disk && disk_) {
        data_.resize(p.bytes);
        disk_(data_.data(), data_.size(), p.disk);
        if (digest_of(data_.data(), data_.size()) == p.digest) {
            done_.disk_bytes += p.bytes;
            return data_;
        }
        throw damaged("the disk is not what it was when {} was stored: {} bytes at {:#x} are others (they are {})",
                      in_quotes(m_.name), p.bytes, p.disk, content_of(m_, number));
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
