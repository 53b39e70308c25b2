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
#include "replica/piece_reader.hpp"

namespace dmchain::replica {

namespace {

using guest::page_bytes;

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

Source find_manifest(const Store& places, const std::string& name, Place::Kind kind) {
    Manifests m = read_manifests(places, name, kind);
    if (m.manifest) return {std::move(*m.manifest), std::move(m.problems)};
    std::string why;
    for (const std::string& p : m.problems) why += (why.empty() ? "" : "; ") + p;
    throw Error(m.damaged ? Exit::damaged : Exit::failed, why);
}

std::uint64_t pieces_only_on_disk(const Manifest& m, const Store& places) {
    return static_cast<std::uint64_t>(std::count_if(m.pieces.begin(), m.pieces.end(), [&](const Piece& p) {
        if (p.disk == Piece::no_disk) return false;
        return !p.folders || std::none_of(places.begin(), places.end(), [&](const Place& f) { return f.has(p); });
    }));
}

Missing missing_pieces(const Manifest& m, const Store& places, bool disk) {
    const std::vector<bool> cache = m.cache_pieces();
    Missing out;
    for (std::size_t i = 0; i < m.pieces.size(); i++) {
        const Piece& p = m.pieces[i];
        if (p.disk != Piece::no_disk && disk) continue;
        if (std::any_of(places.begin(), places.end(), [&](const Place& f) { return f.has(p); })) continue;
        if (cache[i])
            out.cache = true;
        else
            out.pieces.push_back(i);
    }
    return out;
}

Restored restore(const Manifest& m, const Store& places, const chain::Readers& disk, const Outputs& outputs, bool may_lose,
                 const std::function<void(std::uint64_t)>& progress) {
    PieceReader pieces(m, places, disk);
    const auto out = writer_of(m, outputs);
    const auto whole = [&](Run::Kind kind) {
        std::vector<std::uint32_t> numbers;
        std::vector<std::uint64_t> pages;
        for (const Run& r : m.runs)
            if (r.kind == kind) {
                numbers.push_back(r.piece);
                pages.push_back(r.page);
            }
        pieces.each(numbers, [&](std::size_t i, const std::vector<unsigned char>& data) {
            out->other(data.data(), data.size(), pages[i]);
        });
    };
    whole(Run::Kind::head);
    out->begin_pages();
    // The runs of each piece.
    std::map<std::uint32_t, std::vector<const Run*>> runs_of;
    for (const Run& r : m.runs) {
        if (r.kind == Run::Kind::zero || r.kind == Run::Kind::unused)
            for (std::uint64_t p = 0; p < r.pages; p++) out->page(r.block, r.page + p, nullptr);
        else if (r.kind == Run::Kind::piece)
            runs_of[r.piece].push_back(&r);
    }
    std::vector<std::uint32_t> numbers;
    for (const auto& [number, runs] : runs_of) numbers.push_back(number);
    std::vector<guest::PageAt> lost;
    const auto use = [&](std::size_t i, const std::vector<unsigned char>& data) {
        for (const Run* const r : runs_of[numbers[i]]) {
            for (std::uint64_t p = 0; p < r->pages; p++) {
                out->page(r->block, r->page + p, data.empty() ? nullptr : data.data() + (r->at + p) * page_bytes);
                if (data.empty()) lost.push_back({r->block, r->page + p});
            }
            progress(r->pages * page_bytes);
        }
    };
    pieces.each(numbers, use, may_lose ? m.cache_pieces() : std::vector<bool>());
    out->end_pages();
    whole(Run::Kind::tail);
    Restored done = pieces.done();
    done.lost = std::move(lost);
    return done;
}

}  // namespace dmchain::replica
