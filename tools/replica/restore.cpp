// SPDX-License-Identifier: GPL-2.0-or-later
// See restore.hpp. Pages may be written in any order: they come piece by piece, so that each is read once.
#include "replica/restore.hpp"

#include <algorithm>
#include <map>
#include <memory>

#include "guest/firecracker.hpp"
#include "guest/mapped_ram.hpp"
#include "guest/stream.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/catalog.hpp"

namespace dmchain::replica {

namespace {

using guest::page_bytes;

class PieceReader {
public:
    PieceReader(const Manifest& m, const std::vector<Folder>& folders, const ReadDisk& disk)
        : m_(m), folders_(folders), disk_(disk) {}

    // Its content, checked; until the next call.
    const std::vector<unsigned char>& read(std::size_t number) {
        const Piece& p = m_.pieces[number];
        done_.pieces++;
        bool damaged_one = false;
        // What was only noted as being on the disk is not looked for elsewhere.
        for (const Folder& f : p.folders ? folders_ : none_) {
            const auto found = f.read(p, data_);
            if (found == Folder::Found::right) return data_;
            if (found == Folder::Found::damaged) {
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
    const Restored& done() const { return done_; }

private:
    const Manifest& m_;
    const std::vector<Folder>& folders_;
    const std::vector<Folder> none_;
    const ReadDisk& disk_;
    std::vector<unsigned char> data_;
    Restored done_;
};

std::unique_ptr<guest::ImageWriter> writer_of(const Manifest& m, const Outputs& out) {
    if (m.form == guest::Form::firecracker) return std::make_unique<guest::FirecrackerWriter>(out.memory, out.state);
    if (m.form == guest::Form::mapped_ram) {
        std::vector<guest::RamBlock> blocks;
        for (const auto& b : m.blocks) blocks.push_back({b.name, b.bytes, {}, b.pages_at, b.bitmap_at});
        return std::make_unique<guest::MappedRamWriter>(std::move(blocks), out.memory);
    }
    std::vector<std::string> names;
    for (const auto& b : m.blocks) names.push_back(b.name);
    return std::make_unique<guest::StreamWriter>(std::move(names), m.ram_section, out.memory);
}

}  // namespace

Source find_manifest(const std::vector<Folder>& folders, const std::string& name) {
    Manifests m = read_manifests(folders, name);
    if (m.unreadable) throw Error(*m.unreadable);
    if (m.manifest) return {std::move(*m.manifest), std::move(m.problems)};
    std::string why;
    for (const std::string& p : m.problems) why += (why.empty() ? "" : "; ") + p;
    throw Error(m.damaged ? Exit::damaged : Exit::failed, why);
}

std::uint64_t pieces_only_on_disk(const Manifest& m, const std::vector<Folder>& folders) {
    return static_cast<std::uint64_t>(std::count_if(m.pieces.begin(), m.pieces.end(), [&](const Piece& p) {
        if (p.disk == Piece::no_disk) return false;
        return !p.folders || std::none_of(folders.begin(), folders.end(), [&](const Folder& f) { return f.has(p); });
    }));
}

std::vector<std::size_t> missing_pieces(const Manifest& m, const std::vector<Folder>& folders, bool disk) {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < m.pieces.size(); i++) {
        const Piece& p = m.pieces[i];
        if (p.disk != Piece::no_disk && disk) continue;
        if (std::none_of(folders.begin(), folders.end(), [&](const Folder& f) { return f.has(p); })) out.push_back(i);
    }
    return out;
}

std::string content_of(const Manifest& m, std::size_t piece) {
    std::map<std::string, std::uint64_t> pages;
    bool devices = false;
    for (const Run& r : m.runs) {
        if (r.piece != piece) continue;
        if (r.kind == Run::Kind::piece) pages[name_of(r.class_of)] += r.pages;
        if (r.kind == Run::Kind::head || r.kind == Run::Kind::tail) devices = true;
    }
    std::string out = devices ? "the state of the devices" : "";
    for (const auto& [name, n] : pages) out += fmt::format("{}{} of {}", out.empty() ? "" : ", ", counted(n, "page"), name);
    return out;
}

Restored restore(const Manifest& m, const std::vector<Folder>& folders, const ReadDisk& disk, const Outputs& outputs,
                 const std::function<void(std::uint64_t)>& progress) {
    PieceReader pieces(m, folders, disk);
    const auto out = writer_of(m, outputs);
    const auto whole = [&](Run::Kind kind) {
        for (const Run& r : m.runs)
            if (r.kind == kind) {
                const auto& data = pieces.read(r.piece);
                out->other(data.data(), data.size(), r.page);
            }
    };
    whole(Run::Kind::head);
    out->begin_pages();
    std::vector<std::uint32_t> order;
    for (std::uint32_t i = 0; i < m.runs.size(); i++) {
        const Run& r = m.runs[i];
        if (r.kind == Run::Kind::zero || r.kind == Run::Kind::unused)
            for (std::uint64_t p = 0; p < r.pages; p++) out->page(r.block, r.page + p, nullptr);
        else if (r.kind == Run::Kind::piece)
            order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return m.runs[a].piece < m.runs[b].piece; });
    const std::vector<unsigned char>* data = nullptr;
    std::uint64_t current = ~std::uint64_t{0};
    for (const std::uint32_t i : order) {
        const Run& r = m.runs[i];
        if (r.piece != current) {
            data = &pieces.read(r.piece);
            current = r.piece;
        }
        for (std::uint64_t p = 0; p < r.pages; p++) out->page(r.block, r.page + p, data->data() + (r.at + p) * page_bytes);
        progress(r.pages * page_bytes);
    }
    out->end_pages();
    whole(Run::Kind::tail);
    return pieces.done();
}

}  // namespace dmchain::replica
