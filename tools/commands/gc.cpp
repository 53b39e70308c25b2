// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain gc: removes what broken operations left, if it is provably nobody's.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/garbage.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    chain::FleetOptions fleet;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o, Exit& status) {
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
    c->add_option("DIR", o->fleet.folders, "The folders, with all that is below them")->required();
    c->add_flag("--dry-run", o->dry_run, "Only say what would be removed");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o, &status] { run(*o, status); });
    return c;
}

}  // namespace dmchain::commands
