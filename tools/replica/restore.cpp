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
    if (m.unreadable) throw Error(*m.unreadable);
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

std::vector<std::size_t> missing_pieces(const Manifest& m, const Store& places, bool disk) {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < m.pieces.size(); i++) {
        const Piece& p = m.pieces[i];
        if (p.disk != Piece::no_disk && disk) continue;
        if (std::none_of(places.begin(), places.end(), [&](const Place& f) { return f.has(p); })) out.push_back(i);
    }
    return out;
}

Restored restore(const Manifest& m, const Store& places, const chain::ReadDisk& disk, const Outputs& outputs,
                 const std::function<void(std::uint64_t)>& progress) {
    PieceReader pieces(m, places, disk);
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
