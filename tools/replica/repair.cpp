// SPDX-License-Identifier: GPL-2.0-or-later
// See repair.hpp.
#include "replica/repair.hpp"

#include <bit>
#include <set>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::replica {

namespace {

std::uint64_t bit(std::size_t folder) { return std::uint64_t{1} << folder; }

// The folders that get a copy of a piece: in the order in which replicate spreads them.
std::uint64_t new_copies(const Copies& c, std::size_t folders) {
    std::uint64_t out = 0;
    if (!c.sound) return out;
    const std::size_t first = c.piece.digest[0] % folders;
    for (std::size_t i = 0; i < folders && static_cast<unsigned>(std::popcount(c.sound | out)) < c.wanted; i++)
        if (!(c.sound & bit((first + i) % folders))) out |= bit((first + i) % folders);
    return out;
}

const Folder& first_sound(std::uint64_t sound, const std::vector<Folder>& folders) {
    return folders[static_cast<std::size_t>(std::countr_zero(sound))];
}

}  // namespace

Repair plan_repair(const Catalog& catalog, const Pieces& pieces, const std::vector<Folder>& folders) {
    Repair r;
    for (const auto& [digest, c] : pieces) {
        if (c.wanted > folders.size())
            throw failed(
                "some pieces are to have {}, each in a folder of its own, and {} given: name as many folders, empty ones for "
                "those that are lost",
                counted(c.wanted, "copy", "copies"), counted(folders.size(), "folder is", "folders are"));
        const auto n = static_cast<std::uint64_t>(std::popcount(new_copies(c, folders.size())));
        r.copies += n;
        r.bytes += n * c.piece.bytes;
        if (c.sound) r.damaged_copies += static_cast<std::uint64_t>(std::popcount(c.damaged));
    }
    for (const StoredSnapshot& s : catalog.snapshots) {
        r.manifests += folders.size() - static_cast<std::size_t>(std::popcount(s.sound));
        if (health_of(s, pieces).lost) r.lost_snapshots.push_back(s.name);
    }
    r.lost_snapshots.insert(r.lost_snapshots.end(), catalog.lost.begin(), catalog.lost.end());
    return r;
}

void repair(const Catalog& catalog, const Pieces& pieces, std::vector<Folder>& folders,
            const std::function<void(std::uint64_t)>& progress) {
    std::vector<unsigned char> data;
    for (const auto& [digest, c] : pieces) {
        const std::uint64_t to = new_copies(c, folders.size());
        if (!to) continue;
        if (first_sound(c.sound, folders).read(c.piece, data) != Folder::Found::right)
            throw damaged("{}: piece {} was sound a moment ago: run the command again",
                          escaped(first_sound(c.sound, folders).path()), text_of(digest));
        for (std::size_t f = 0; f < folders.size(); f++)
            if (to & bit(f)) {
                folders[f].put(c.piece, data.data());
                progress(c.piece.bytes);
            }
    }
    for (Folder& f : folders) f.settle();
    // Damaged copies beyond those that are wanted.
    for (std::size_t f = 0; f < folders.size(); f++) {
        for (const auto& [digest, c] : pieces)
            if (c.sound && c.damaged & bit(f) && !(new_copies(c, folders.size()) & bit(f))) folders[f].remove_piece(digest);
        folders[f].settle_removals();
    }
    for (const StoredSnapshot& s : catalog.snapshots) {
        const std::vector<unsigned char> packed = first_sound(s.sound, folders).read_manifest(s.name)->pack();
        for (std::size_t f = 0; f < folders.size(); f++)
            if (!(s.sound & bit(f))) folders[f].put_manifest(s.name, packed, true);
    }
}

void require_known(const Catalog& catalog) {
    if (!catalog.lost.empty())
        throw failed(
            "the snapshot {} has no manifest that is whole, so nobody knows which pieces are its: name all folders, or give it "
            "up with --forget {}",
            in_quotes(catalog.lost.front()), escaped(catalog.lost.front()));
}

Unused remove_unused(const Catalog& catalog, const std::vector<Folder>& folders, bool dry_run) {
    require_known(catalog);
    std::set<Digest> used;
    for (const StoredSnapshot& s : catalog.snapshots)
        for (const Piece& p : s.pieces) used.insert(p.digest);
    Unused out;
    for (const Folder& f : folders) {
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
