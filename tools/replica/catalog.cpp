// SPDX-License-Identifier: GPL-2.0-or-later
// See catalog.hpp.
#include "replica/catalog.hpp"

#include <algorithm>
#include <bit>
#include <set>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"

namespace dmchain::replica {

namespace {

StoredSnapshot without_runs(Manifest&& m) {
    StoredSnapshot s{std::move(m.name), m.created, std::move(m.kernel), 0, std::move(m.disk), std::move(m.pieces)};
    for (const auto& b : m.blocks) s.memory_bytes += b.bytes;
    return s;
}

}  // namespace

Manifests read_manifests(const std::vector<Folder>& folders, const std::string& name) {
    Manifests out;
    std::vector<unsigned char> packed;
    for (std::size_t f = 0; f < folders.size(); f++) {
        std::optional<Manifest> m;
        try {
            m = folders[f].read_manifest(name);
        } catch (const Error& e) {
            out.problems.emplace_back(e.what());
            out.damaged = out.damaged || e.code() == Exit::damaged;
            if (e.code() != Exit::damaged && !out.unreadable) out.unreadable = e;
            continue;
        }
        if (!m) {
            out.problems.push_back(fmt::format("{}: has no snapshot {}", escaped(folders[f].path()), in_quotes(name)));
            continue;
        }
        if (out.manifest && m->pack() != packed)
            throw failed("{}: its snapshot {} is another one than that of the folder before: name the folders of one of them",
                         escaped(folders[f].path()), in_quotes(name));
        out.sound |= std::uint64_t{1} << f;
        if (out.manifest) continue;
        packed = m->pack();
        out.manifest = std::move(m);
    }
    return out;
}

bool Copies::is_short() const { return static_cast<unsigned>(std::popcount(sound)) < wanted; }
bool Copies::is_lost() const { return wanted && !sound && piece.disk == Piece::no_disk; }

Catalog read_catalog(const std::vector<Folder>& folders) {
    std::set<std::string> names;
    for (const Folder& f : folders)
        for (const std::string& name : f.manifests()) names.insert(name);
    Catalog out;
    for (const std::string& name : names) {
        Manifests m = read_manifests(folders, name);
        out.problems.insert(out.problems.end(), m.problems.begin(), m.problems.end());
        if (m.manifest) {
            out.snapshots.push_back(without_runs(std::move(*m.manifest)));
            out.snapshots.back().sound = m.sound;
        } else {
            out.lost.push_back(name);
        }
    }
    return out;
}

Pieces wanted_copies(const Catalog& catalog) {
    Pieces out;
    for (const StoredSnapshot& s : catalog.snapshots)
        for (const Piece& p : s.pieces) {
            Copies& c = out.try_emplace(p.digest, Copies{p}).first->second;
            if (c.piece.disk == Piece::no_disk) c.piece.disk = p.disk;
            c.wanted = std::max(c.wanted, static_cast<unsigned>(std::popcount(p.folders)));
        }
    return out;
}

std::uint64_t wanted_bytes(const Pieces& pieces) {
    std::uint64_t sum = 0;
    for (const auto& [digest, c] : pieces) sum += std::uint64_t{c.wanted} * c.piece.bytes;
    return sum;
}

void find_copies(Pieces& pieces, const std::vector<Folder>& folders) {
    for (auto& [digest, c] : pieces)
        for (std::size_t f = 0; f < folders.size(); f++)
            if (folders[f].has(c.piece)) c.sound |= std::uint64_t{1} << f;
}

void read_copies(Pieces& pieces, const std::vector<Folder>& folders, const std::function<void(std::uint64_t)>& progress) {
    // A thread for each folder: they are on disks of their own.
    std::vector<std::vector<Folder::Found>> found(folders.size());
    share_out(folders.size(), static_cast<unsigned>(folders.size()), [&](Turns& turns, bool) {
        std::vector<unsigned char> buffer;
        while (const auto f = turns.next())
            for (const auto& [digest, c] : pieces) {
                found[*f].push_back(folders[*f].read(c.piece, buffer));
                if (found[*f].back() == Folder::Found::right) progress(c.piece.bytes);
            }
    });
    std::size_t i = 0;
    for (auto& [digest, c] : pieces) {
        for (std::size_t f = 0; f < folders.size(); f++) {
            const std::uint64_t bit = std::uint64_t{1} << f;
            if (found[f][i] == Folder::Found::right) c.sound |= bit;
            if (found[f][i] == Folder::Found::damaged) c.damaged |= bit;
        }
        i++;
    }
}

Health health_of(const StoredSnapshot& snapshot, const Pieces& pieces) {
    Health h;
    for (const Piece& p : snapshot.pieces) {
        const Copies& c = pieces.at(p.digest);
        h.pieces++;
        h.short_ones += c.is_short();
        h.lost += c.is_lost();
        h.only_on_disk += !c.sound && c.piece.disk != Piece::no_disk;
        h.stored_bytes += static_cast<std::uint64_t>(std::popcount(c.sound)) * p.bytes;
    }
    return h;
}

}  // namespace dmchain::replica
