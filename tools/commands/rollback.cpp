// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain rollback: takes a device back to a snapshot.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/rollback.hpp"
#include "device/turn.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    std::string snapshot;
    device::RollbackOptions how;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o) {
    const device::Subject subject = device::subject(o.name);
    std::optional<device::ChainTurn> turn;
    if (!o.dry_run) turn.emplace(subject);
    const device::RollbackPlan plan = device::plan_rollback(subject, o.snapshot, o.how);
    if (!o.dry_run) device::rollback(subject, plan, o.how);
    if (o.json) {
        nlohmann::json branch = nlohmann::json::array();
        for (const device::ChainImage& i : plan.left) branch.push_back(i.path);
        print_json(nlohmann::ordered_json{{"device", "/dev/mapper/" + subject.name},
                                          {"snapshot", plan.snapshot},
                                          {"active_layer", plan.layer},
                                          {"branch", branch},
                                          {"dropped", o.how.drop},
                                          {"dry_run", o.dry_run}});
        return;
    }
    const char* would = o.dry_run ? "would be " : "is ";
    fmt::print("/dev/mapper/{}: {}as it was at {}; writes go to {}\n", escaped(subject.name), would, escaped(plan.snapshot),
               escaped(plan.layer));
    if (o.how.drop)
        fmt::print("  {} {}removed\n", counted(plan.left.size(), "layer"), o.dry_run ? "would be " : "");
    else
        fmt::print("  what it was before {}left in {}\n", would, escaped(plan.left.back().path));
}

}  // namespace

CLI::App* add_rollback(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("rollback", "Take the device NAME, which nobody has open, back to a snapshot");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_option("SNAPSHOT", o->snapshot, "Number, name or path of the layer that it goes on from")->required();
    c->add_option("--layer", o->how.layer,
                  "Where writes go: a file to make, or a block device (default: the active layer's name with the next number)")
        ->type_name("PATH");
    c->add_flag("--drop", o->how.drop, "Remove the layers above the snapshot, instead of leaving them as a branch");
    c->add_option("--registry", o->how.registry,
                  "Folder below which other chains may use the layers, besides the layers' own; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    add_allow_options(*c, o->how.chain.allow, o->how.chain.assume_raw, "the layers'");
    c->add_flag("--dry-run", o->dry_run, "Check all, and say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
