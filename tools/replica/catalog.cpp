// SPDX-License-Identifier: GPL-2.0-or-later
// See catalog.hpp.
#include "replica/catalog.hpp"

#include <algorithm>
#include <bit>
#include <set>
#include <tuple>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"

namespace dmchain::replica {

namespace {

StoredSnapshot without_runs(Manifest&& m) {
    StoredSnapshot s;
    s.cache = m.cache_pieces();
    s.name = std::move(m.name);
    s.created = m.created;
    s.kernel = std::move(m.kernel);
    s.disk = std::move(m.disk);
    s.layers = std::move(m.layers);
    s.pieces = std::move(m.pieces);
    for (const auto& b : m.blocks) s.memory_bytes += b.bytes;
    return s;
}

// Reads the layers of @s that are not in @out yet. Returns whether all are known.
bool add_layers(const Store& places, StoredSnapshot& s, Catalog& out) {
    for (const std::string& name : s.layers) {
        auto it = out.layers.find(name);
        if (it == out.layers.end()) {
            Manifests m = read_manifests(places, name, Place::Kind::layer);
            out.problems.insert(out.problems.end(), m.problems.begin(), m.problems.end());
            if (!m.manifest) return false;
            it = out.layers.emplace(name, StoredLayer{m.manifest->layer->bytes, std::move(m.manifest->pieces), m.sound}).first;
        }
        s.disk_bytes = it->second.disk_bytes;
    }
    return true;
}

}  // namespace

Manifests read_manifests(const Store& places, const std::string& name, Place::Kind kind) {
    const char* const what = kind == Place::Kind::layer ? "layer" : "snapshot";
    Manifests out;
    std::vector<unsigned char> packed;
    for (std::size_t f = 0; f < places.size(); f++) {
        std::optional<Manifest> m;
        try {
            m = places[f].read_manifest(name, kind);
        } catch (const Error& e) {
            out.problems.emplace_back(e.what());
            out.damaged = out.damaged || e.code() == Exit::damaged;
            continue;
        }
        if (!m) {
            out.problems.push_back(fmt::format("{}: has no {} {}", escaped(places[f].name()), what, in_quotes(name)));
            continue;
        }
        std::vector<unsigned char> bytes = m->pack();
        // A layer that was stored again with more copies, when that was cut off, is the same layer: the newer manifest counts.
        if (out.manifest && kind == Place::Kind::layer && bytes != packed) {
            if (std::tie(m->created, bytes) < std::tie(out.manifest->created, packed)) {
                out.problems.push_back(
                    fmt::format("{}: its layer {} is an older one", escaped(places[f].name()), in_quotes(name)));
                continue;
            }
            out.problems.push_back(fmt::format("{}: its layer {} is a newer one", escaped(places[f].name()), in_quotes(name)));
            out.manifest.reset();
            out.sound = 0;
        }
        if (out.manifest && bytes != packed)
            throw failed("{}: its {} {} is another one than that of the folder before: name the folders of one of them",
                         escaped(places[f].name()), what, in_quotes(name));
        out.sound |= std::uint64_t{1} << f;
        if (out.manifest) continue;
        packed = std::move(bytes);
        out.manifest = std::move(m);
    }
    return out;
}

bool Copies::is_short() const { return static_cast<unsigned>(std::popcount(sound)) < wanted; }
bool Copies::is_lost() const { return wanted && !sound && piece.disk == Piece::no_disk; }

Catalog read_catalog(const Store& places) {
    std::set<std::string> names;
    Catalog out;
    for (const Place& f : places) {
        try {
            for (const std::string& name : f.manifests()) names.insert(name);
        } catch (const Error& e) {
            out.unlisted.emplace_back(e.what());
        }
    }
    out.problems = out.unlisted;
    for (const std::string& name : names) {
        Manifests m = read_manifests(places, name);
        out.problems.insert(out.problems.end(), m.problems.begin(), m.problems.end());
        if (!m.manifest) {
            out.lost.push_back(name);
            continue;
        }
        StoredSnapshot s = without_runs(std::move(*m.manifest));
        s.sound = m.sound;
        if (add_layers(places, s, out))
            out.snapshots.push_back(std::move(s));
        else
            out.lost.push_back(name);
    }
    return out;
}

Pieces wanted_copies(const Catalog& catalog) {
    Pieces out;
    const auto add = [&](const Piece& p) {
        Copies& c = out.try_emplace(p.digest, Copies{p}).first->second;
        if (c.piece.disk == Piece::no_disk) c.piece.disk = p.disk;
        c.wanted = std::max(c.wanted, static_cast<unsigned>(std::popcount(p.folders)));
    };
    for (const StoredSnapshot& s : catalog.snapshots)
        for (const Piece& p : s.pieces) add(p);
    for (const auto& [name, layer] : catalog.layers)
        for (const Piece& p : layer.pieces) add(p);
    return out;
}

std::uint64_t wanted_bytes(const Pieces& pieces) {
    std::uint64_t sum = 0;
    for (const auto& [digest, c] : pieces) sum += std::uint64_t{c.wanted} * c.piece.bytes;
    return sum;
}

void find_copies(Pieces& pieces, const Store& places) {
    for (auto& [digest, c] : pieces)
        for (std::size_t f = 0; f < places.size(); f++)
            if (const std::uint64_t bytes = places[f].size_of(c.piece)) {
                c.sound |= std::uint64_t{1} << f;
                c.stored_bytes += bytes;
            }
}

void read_copies(Pieces& pieces, const Store& places, const std::function<void(std::uint64_t)>& progress) {
    // A thread for each folder: they are on disks of their own.
    std::vector<std::vector<Place::Found>> found(places.size());
    share_out(places.size(), static_cast<unsigned>(places.size()), [&](Turns& turns, bool) {
        std::vector<unsigned char> buffer;
        while (const auto f = turns.next())
            for (const auto& [digest, c] : pieces) {
                found[*f].push_back(places[*f].read(c.piece, buffer));
                if (found[*f].back() == Place::Found::right) progress(c.piece.bytes);
            }
    });
    std::size_t i = 0;
    for (auto& [digest, c] : pieces) {
        for (std::size_t f = 0; f < places.size(); f++) {
            const std::uint64_t bit = std::uint64_t{1} << f;
            if (found[f][i] == Place::Found::right) c.sound |= bit;
            if (found[f][i] == Place::Found::damaged) c.damaged |= bit;
        }
        i++;
    }
}

Health health_of(const Catalog& catalog, const StoredSnapshot& snapshot, const Pieces& pieces) {
    Health h;
    const auto own = snapshot.pieces.size();
    catalog.each_piece(snapshot, [&](const Piece& p) {
        const Copies& c = pieces.at(p.digest);
        const bool cache = h.pieces < own && snapshot.cache[h.pieces];  // its own come first
        h.pieces++;
        h.short_ones += c.is_short();
        (cache ? h.lost_cache : h.lost) += c.is_lost();
        h.only_on_disk += !c.sound && c.piece.disk != Piece::no_disk;
        h.stored_bytes += c.stored_bytes;
    });
    return h;
}

}  // namespace dmchain::replica
