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

// The snapshot from the folders that have it; nothing if none has it whole.
std::optional<StoredSnapshot> read_snapshot(const std::string& name, const std::vector<Folder>& folders,
                                            std::vector<std::string>& problems) {
    std::optional<StoredSnapshot> out;
    Digest first{};
    for (std::size_t f = 0; f < folders.size(); f++) {
        std::optional<Manifest> m;
        try {
            m = folders[f].read_manifest(name);
        } catch (const Error& e) {
            problems.emplace_back(e.what());
            continue;
        }
        if (!m) {
            problems.push_back(fmt::format("{}: has no snapshot {}", escaped(folders[f].path()), in_quotes(name)));
            continue;
        }
        const std::vector<unsigned char> packed = m->pack();
        const Digest digest = digest_of(packed.data(), packed.size());
        if (out && digest != first)
            throw failed("{}: its snapshot {} is another one than that of a folder before: name the folders of one store",
                         escaped(folders[f].path()), in_quotes(name));
        first = digest;
        if (!out) out = without_runs(std::move(*m));
        out->sound |= std::uint64_t{1} << f;
    }
    return out;
}

}  // namespace

bool Copies::is_short() const { return static_cast<unsigned>(std::popcount(sound)) < wanted; }
bool Copies::is_lost() const { return wanted && !sound && piece.disk == Piece::no_disk; }

Catalog read_catalog(const std::vector<Folder>& folders) {
    std::set<std::string> names;
    for (const Folder& f : folders)
        for (const std::string& name : f.manifests()) names.insert(name);
    Catalog out;
    for (const std::string& name : names) {
        if (auto s = read_snapshot(name, folders, out.problems))
            out.snapshots.push_back(std::move(*s));
        else
            out.lost.push_back(name);
    }
    return out;
}

Pieces find_copies(const Catalog& catalog, const std::vector<Folder>& folders, bool read,
                   const std::function<void(std::uint64_t)>& progress) {
    Pieces out;
    for (const StoredSnapshot& s : catalog.snapshots)
        for (const Piece& p : s.pieces) {
            Copies& c = out.try_emplace(p.digest, Copies{p}).first->second;
            if (c.piece.disk == Piece::no_disk) c.piece.disk = p.disk;
            c.wanted = std::max(c.wanted, static_cast<unsigned>(std::popcount(p.folders)));
        }
    // A thread for each folder: they are on disks of their own.
    std::vector<std::vector<Folder::Found>> found(folders.size());
    share_out(folders.size(), static_cast<unsigned>(folders.size()), [&](Turns& turns, bool) {
        std::vector<unsigned char> buffer;
        while (const auto f = turns.next())
            for (const auto& [digest, c] : out) {
                if (read) {
                    found[*f].push_back(folders[*f].read(c.piece, buffer));
                    if (found[*f].back() == Folder::Found::right) progress(c.piece.bytes);
                } else {
                    found[*f].push_back(folders[*f].has(c.piece) ? Folder::Found::right : Folder::Found::missing);
                }
            }
    });
    std::size_t i = 0;
    for (auto& [digest, c] : out) {
        for (std::size_t f = 0; f < folders.size(); f++) {
            const std::uint64_t bit = std::uint64_t{1} << f;
            if (found[f][i] == Folder::Found::right) c.sound |= bit;
            if (found[f][i] == Folder::Found::damaged) c.damaged |= bit;
        }
        i++;
    }
    return out;
}

std::uint64_t bytes_to_read(const Catalog& catalog, const std::vector<Folder>& folders) {
    std::uint64_t sum = 0;
    for (const auto& [digest, c] : find_copies(catalog, folders, false, {}))
        sum += static_cast<std::uint64_t>(std::popcount(c.sound)) * c.piece.bytes;
    return sum;
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
