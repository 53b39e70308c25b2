// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain gc: removes what broken operations left, if it is provably nobody's.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "commands/stores.hpp"
#include "device/garbage.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    chain::FleetOptions fleet;
    std::vector<std::string> forget;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o, Exit& status) {
    if (is_store(o.fleet.folders.front())) {
        if (o.fleet.folders.size() > 1) throw Error(Exit::usage, "gc: a store is looked at alone: name no folders beside it");
        return gc_store({o.fleet.folders.front(), o.forget, o.dry_run, o.json});
    }
    if (!o.forget.empty()) throw Error(Exit::usage, "gc: --forget goes with a store, as dir:/mnt/a,/mnt/b");
    const chain::Fleet fleet = chain::scan_fleet(o.fleet);
    for (const std::string& line : fleet.damage) fmt::print(stderr, "dmchain: not read: {}\n", line);
    const std::vector<device::Verdict> all = device::judge(fleet);
    nlohmann::ordered_json removed = nlohmann::ordered_json::array(), left = nlohmann::ordered_json::array();
    std::uint64_t bytes = 0;
    for (const device::Verdict& v : all) {
        std::string why = v.why;
        bool gone = v.garbage;
        try {
            if (gone && !o.dry_run) device::remove_garbage(v);
        } catch (const Error& e) {
            gone = false;
            why = e.what();
            status = Exit::failed;
        }
        if (gone) bytes += v.identity.bytes;
        if (o.json)
            (gone ? removed : left).push_back({{"path", v.path}, {"file_bytes", v.identity.bytes}, {"reason", why}});
        else
            fmt::print("{} {}: {}\n", !gone ? "left alone" : o.dry_run ? "would remove" : "removed", escaped(v.path), why);
    }
    if (o.json)
        print_json(nlohmann::ordered_json{{"folders", fleet.folders},
                                          {"removed", removed},
                                          {"left", left},
                                          {"removed_bytes", bytes},
                                          {"damage", fleet.damage},
                                          {"dry_run", o.dry_run}});
    else if (all.empty())
        fmt::print("nothing was left behind\n");
}

}  // namespace

CLI::App* add_gc(CLI::App& app, Exit& status) {
    auto o = std::make_shared<Options>();
    // Only who names what matters: not whether it could be read.
    o->fleet.assume_raw = true;
    CLI::App* c = app.add_subcommand("gc", "Remove what broken operations left in folders, if it is provably nobody's");
    c->add_option("DIR", o->fleet.folders,
                  "Folders, with all that is below them; or a store of replicate, as dir:DIR[,DIR...] or rados:POOL[,POOL...]")
        ->required();
    c->add_option("--forget", o->forget, "Of a store: this snapshot goes, and all that is only its. Repeatable")
        ->type_name("SNAPSHOT")
        ->allow_extra_args(false);
    c->add_flag("--dry-run", o->dry_run, "Only say what would be removed");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o, &status] { run(*o, status); });
    return c;
}

}  // namespace dmchain::commands
