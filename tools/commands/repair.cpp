// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain repair: gives stored snapshots the copies back that were lost or damaged.
#include "replica/repair.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string store;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o, Exit& status) {
    replica::Store places = replica::open_store(o.store);
    if (std::none_of(places.begin(), places.end(), [](const auto& f) { return f.is_store(); }))
        throw failed("{}: no folder of it is a store of dmchain", in_quotes(o.store));
    for (auto& f : places) {
        if (!o.dry_run)
            f.begin_writing();
        else if (f.is_store())
            f.begin_reading();
    }
    const replica::Catalog catalog = replica::read_catalog(places);
    replica::Pieces pieces = replica::wanted_copies(catalog);
    {
        Progress progress("reading", replica::wanted_bytes(pieces), Progress::Counts::bytes);
        replica::read_copies(pieces, places, [&](std::uint64_t n) { progress.add(n); });
    }
    const replica::Repair r = replica::plan_repair(catalog, pieces, places);
    if (!o.dry_run) {
        Progress progress("copying", r.bytes, Progress::Counts::bytes);
        replica::repair(catalog, pieces, places, [&](std::uint64_t n) { progress.add(n); });
    }
    if (!r.lost_snapshots.empty()) status = Exit::damaged;
    if (o.json)
        return print_json(nlohmann::ordered_json{{"copies", r.copies},
                                                 {"bytes", r.bytes},
                                                 {"damaged_copies", r.damaged_copies},
                                                 {"manifests", r.manifests},
                                                 {"lost_snapshots", r.lost_snapshots},
                                                 {"dry_run", o.dry_run}});
    const char* const would = o.dry_run ? "would make" : "made";
    if (r.copies || r.manifests || r.damaged_copies)
        fmt::print("{} {} again, {}, and {}; {} damaged {} away\n", would, counted(r.copies, "copy", "copies"),
                   human_size(r.bytes), counted(r.manifests, "manifest"), r.damaged_copies,
                   r.damaged_copies == 1 ? "one goes" : "ones go");
    else
        fmt::print("nothing to repair\n");
    for (const std::string& name : r.lost_snapshots)
        fmt::print(stderr,
                   "dmchain: {}: something of it has no sound copy left in these folders: it cannot be restored from them\n",
                   in_quotes(name));
}

}  // namespace

CLI::App* add_repair(CLI::App& app, Exit& status) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("repair", "Make lost and damaged copies of stored snapshots again");
    c->add_option("STORE", o->store,
                  "The folders that are left, and empty ones for those that are lost, as dir:DIR[,DIR...]; or the pools, as "
                  "rados:POOL[,POOL...]")
        ->required();
    c->add_flag("--dry-run", o->dry_run, "Only say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o, &status] { run(*o, status); });
    return c;
}

}  // namespace dmchain::commands
