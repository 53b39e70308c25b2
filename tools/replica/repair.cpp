// SPDX-License-Identifier: GPL-2.0-or-later
// See repair.hpp.
#include "replica/repair.hpp"

#include <bit>
#include <set>

#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/compression.hpp"

namespace dmchain::replica {

namespace {

std::uint64_t bit(std::size_t folder) { return std::uint64_t{1} << folder; }

// The places that get a copy of a piece.
std::uint64_t new_copies(const Copies& c, const Store& places) {
    return c.sound ? places.places_for(c.piece.digest, c.wanted, c.sound) : 0;
}

const Place& first_sound(std::uint64_t sound, const Store& places) {
    return places[static_cast<std::size_t>(std::countr_zero(sound))];
}

}  // namespace

Repair plan_repair(const Catalog& catalog, const Pieces& pieces, const Store& places) {
    Repair r;
    for (const auto& [digest, c] : pieces) {
        if (c.wanted > places.size())
            throw failed(
                "some pieces are to have {}, each in a folder of its own, and {} given: name as many folders, empty ones for "
                "those that are lost",
                counted(c.wanted, "copy", "copies"), counted(places.size(), "folder is", "folders are"));
        const auto n = static_cast<std::uint64_t>(std::popcount(new_copies(c, places)));
        r.copies += n;
        r.bytes += n * c.piece.bytes;
        if (c.sound) r.damaged_copies += static_cast<std::uint64_t>(std::popcount(c.damaged));
    }
    for (const StoredSnapshot& s : catalog.snapshots) {
        r.manifests += places.size() - static_cast<std::size_t>(std::popcount(s.sound));
        if (health_of(catalog, s, pieces).lost) r.lost_snapshots.push_back(s.name);
    }
    for (const auto& [name, layer] : catalog.layers)
        r.manifests += places.size() - static_cast<std::size_t>(std::popcount(layer.sound));
    r.lost_snapshots.insert(r.lost_snapshots.end(), catalog.lost.begin(), catalog.lost.end());
    return r;
}

void repair(const Catalog& catalog, const Pieces& pieces, Store& places, const std::function<void(std::uint64_t)>& progress) {
    std::vector<unsigned char> data;
    for (const auto& [digest, c] : pieces) {
        const std::uint64_t to = new_copies(c, places);
        if (!to) continue;
        if (first_sound(c.sound, places).read(c.piece, data) != Place::Found::right)
            throw damaged("{}: piece {} was sound a moment ago: run the command again",
                          escaped(first_sound(c.sound, places).name()), text_of(digest));
        // As it was stored.
        const bool smaller = first_sound(c.sound, places).size_of(c.piece) < c.piece.bytes;
        const std::vector<unsigned char> packed = smaller ? compressed(data) : std::vector<unsigned char>();
        for (std::size_t f = 0; f < places.size(); f++)
            if (to & bit(f)) {
                places[f].put(c.piece, data, packed);
                progress(c.piece.bytes);
            }
    }
    for (Place& f : places) f.settle();
    // Damaged copies beyond those that are wanted.
    for (std::size_t f = 0; f < places.size(); f++) {
        for (const auto& [digest, c] : pieces)
            if (c.sound && c.damaged & bit(f) && !(new_copies(c, places) & bit(f))) places[f].remove_piece(digest);
        places[f].settle_removals();
    }
    const auto spread = [&](const std::string& name, std::uint64_t sound, Place::Kind kind) {
        const std::vector<unsigned char> packed = first_sound(sound, places).read_manifest(name, kind)->pack();
        for (std::size_t f = 0; f < places.size(); f++)
            if (!(sound & bit(f))) places[f].put_manifest(name, packed, true, kind);
    };
    for (const auto& [name, layer] : catalog.layers) spread(name, layer.sound, Place::Kind::layer);
    for (const StoredSnapshot& s : catalog.snapshots) spread(s.name, s.sound, Place::Kind::snapshot);
}

void require_known(const Catalog& catalog) {
    if (!catalog.unlisted.empty()) throw failed("{}: so nobody knows which pieces are in use", catalog.unlisted.front());
    if (!catalog.lost.empty())
        throw failed(
            "the snapshot {}, or a layer of it, has no manifest that is whole, so nobody knows which pieces are its: name all "
            "folders, or give it "
            "up with --forget {}",
            in_quotes(catalog.lost.front()), escaped(catalog.lost.front()));
}

Unused remove_unused(const Catalog& catalog, const Store& places, bool dry_run) {
    require_known(catalog);
    std::set<Digest> used;
    std::set<std::string> layers;
    for (const StoredSnapshot& s : catalog.snapshots) {
        catalog.each_piece(s, [&](const Piece& p) { used.insert(p.digest); });
        layers.insert(s.layers.begin(), s.layers.end());
    }
    Unused out;
    // First the manifests: a layer that is found is one that can be used.
    if (!dry_run)
        for (const Place& f : places)
            for (const std::string& name : f.manifests(Place::Kind::layer))
                if (!layers.contains(name)) f.remove_manifest(name, Place::Kind::layer);
    for (const Place& f : places) {
        std::vector<Digest> unused;
        f.each_piece([&](const Digest& digest, std::uint64_t bytes) {
            if (used.contains(digest)) return;
            unused.push_back(digest);
            out.copies++;
            out.bytes += bytes;
        });
        if (dry_run) continue;
        for (const Digest& d : unused) f.remove_piece(d);
        f.settle_removals();
    }
    return out;
}

}  // namespace dmchain::replica
