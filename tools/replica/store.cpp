// SPDX-License-Identifier: GPL-2.0-or-later
// See store.hpp.
#include "replica/store.hpp"

#include <algorithm>
#include <bit>

#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/folder.hpp"
#include "replica/pool.hpp"

namespace dmchain::replica {

namespace {

constexpr std::string_view folder_prefix = "dir:", pool_prefix = "rados:";

std::uint64_t bit(std::size_t place) { return std::uint64_t{1} << place; }

// "A,B": A and B.
std::vector<std::string> split(const std::string& store, std::size_t prefix, const char* what) {
    std::vector<std::string> out;
    for (std::size_t at = prefix; at <= store.size();) {
        const std::size_t end = std::min(store.find(',', at), store.size());
        if (end == at) throw failed("{}: has a {} without a name", in_quotes(store), what);
        out.push_back(store.substr(at, end - at));
        at = end + 1;
    }
    if (out.size() > most_folders) throw failed("the store has {} {}s, expected at most {}", out.size(), what, most_folders);
    return out;
}

Store::Places open_folders(const std::vector<std::string>& paths) {
    Store::Places out;
    std::vector<const Folder*> known;
    for (const std::string& path : paths) {
        auto folder = std::make_unique<Folder>(path);
        for (const Folder* o : known)
            if (folder->same_folder(*o))
                throw failed("{}: is the same folder as {}: name folders on different disks", escaped(folder->name()),
                             escaped(o->name()));
        known.push_back(folder.get());
        out.push_back(std::move(folder));
    }
    return out;
}

}  // namespace

unsigned Store::most_copies() const {
    if (!pools_) return static_cast<unsigned>(places_.size());
    unsigned most = 0;
    for (const auto& p : places_) most = std::max(most, p->copies());
    return most;
}

unsigned Store::places_of(unsigned copies) const { return pools_ ? std::min(copies, 1u) : copies; }

std::uint64_t Store::places_for(const Digest& digest, unsigned copies, std::uint64_t there) const {
    std::uint64_t out = 0;
    if (pools_) {
        std::size_t best = places_.size();
        for (std::size_t p = 0; p < places_.size(); p++)
            if (places_[p]->copies() >= copies && (best == places_.size() || places_[p]->copies() < places_[best]->copies()))
                best = p;
        return there || !copies || best == places_.size() ? 0 : bit(best);
    }
    // Spread over the folders by what the piece is, so that the same one is looked for where it was put before.
    const std::size_t n = places_.size(), first = digest[0] % n;
    for (std::size_t i = 0; i < n && static_cast<unsigned>(std::popcount(there | out)) < copies; i++)
        if (!(there & bit((first + i) % n))) out |= bit((first + i) % n);
    return out;
}

bool is_store_name(const std::string& what) { return what.starts_with(folder_prefix) || what.starts_with(pool_prefix); }

Store open_store(const std::string& store) {
    if (store.starts_with(folder_prefix)) return {open_folders(split(store, folder_prefix.size(), "folder")), false};
    if (store.starts_with(pool_prefix)) return {open_pools(split(store, pool_prefix.size(), "pool")), true};
    throw failed("{}: is no store: expected dir:FOLDER[,FOLDER...] or rados:POOL[,POOL...]", in_quotes(store));
}

}  // namespace dmchain::replica
