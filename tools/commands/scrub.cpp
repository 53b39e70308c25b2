// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain scrub: reads all copies of stored snapshots, and says which are missing or damaged. Reads only.
#include <fmt/format.h>

#include <bit>
#include <memory>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "replica/catalog.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string store;
    bool json = false;
};

struct Sums {
    std::uint64_t sound = 0, damaged = 0;  // copies
};

// "whole", or what is wrong.
std::string state_of(const replica::Health& h) {
    if (h.lost) return fmt::format("lost: {} of {} have no sound copy left", h.lost, counted(h.pieces, "piece"));
    if (h.short_ones)
        return fmt::format("{} of {} have fewer copies than they should{}", h.short_ones, counted(h.pieces, "piece"),
                           h.lost_cache ? fmt::format("; {} of clean cache {} no sound copy left, and the guest goes on without",
                                                      h.lost_cache, h.lost_cache == 1 ? "has" : "have")
                                        : "");
    return "whole";
}

void run(const Options& o, Exit& status) {
    replica::Store places = replica::open_store(o.store);
    for (auto& f : places) f.begin_reading();
    const replica::Catalog catalog = replica::read_catalog(places);
    replica::Pieces pieces = replica::wanted_copies(catalog);
    {
        Progress progress("reading", replica::wanted_bytes(pieces), Progress::Counts::bytes);
        replica::read_copies(pieces, places, [&](std::uint64_t n) { progress.add(n); });
    }
    std::vector<Sums> sums(places.size());
    for (const auto& [digest, c] : pieces)
        for (std::size_t f = 0; f < places.size(); f++) {
            sums[f].sound += c.sound >> f & 1;
            sums[f].damaged += c.damaged >> f & 1;
        }
    bool right = catalog.problems.empty() && catalog.lost.empty();
    auto snapshots = nlohmann::ordered_json::array(), rows = nlohmann::ordered_json::array();
    for (const auto& s : catalog.snapshots) {
        const replica::Health h = replica::health_of(catalog, s, pieces);
        right = right && !h.short_ones && !h.lost;
        if (!o.json) fmt::print("{}: {}\n", escaped(s.name), state_of(h));
        snapshots.push_back({{"name", s.name},
                             {"pieces", h.pieces},
                             {"short_pieces", h.short_ones},
                             {"lost_pieces", h.lost},
                             {"lost_cache_pieces", h.lost_cache},
                             {"on_disk_pieces", h.only_on_disk},
                             {"manifests", std::popcount(s.sound)}});
    }
    for (const std::string& name : catalog.lost) {
        if (!o.json) fmt::print("{}: lost: no manifest is whole\n", escaped(name));
        snapshots.push_back({{"name", name}, {"manifests", 0}});
    }
    for (std::size_t f = 0; f < places.size(); f++) {
        right = right && !sums[f].damaged;
        rows.push_back({{"path", places[f].name()}, {"sound_copies", sums[f].sound}, {"damaged_copies", sums[f].damaged}});
        if (!o.json)
            fmt::print("{}: {} sound, {} damaged\n", escaped(places[f].name()), counted(sums[f].sound, "piece"), sums[f].damaged);
    }
    if (o.json)
        print_json(nlohmann::ordered_json{
            {"snapshots", snapshots}, {"folders", rows}, {"problems", catalog.problems}, {"whole", right}});
    else
        for (const std::string& p : catalog.problems) fmt::print("{}\n", p);
    if (!right && !o.json) fmt::print("dmchain repair {} makes what can be made again\n", escaped(o.store));
    if (!right) status = Exit::damaged;
}

}  // namespace

CLI::App* add_scrub(CLI::App& app, Exit& status) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("scrub", "Read all copies of stored snapshots, and say which are missing or damaged");
    c->add_option("STORE", o->store, "All folders of the store, as dir:DIR[,DIR...], or its pools, as rados:POOL[,POOL...]")
        ->required();
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o, &status] { run(*o, status); });
    return c;
}

}  // namespace dmchain::commands
