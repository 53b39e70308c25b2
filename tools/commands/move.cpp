// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain move: a sealed layer to another place, also of a device in use.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/move.hpp"
#include "device/turn.hpp"
#include "io/progress.hpp"
#include "io/scheduling.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string what;
    std::string layer;
    std::string to;
    std::vector<std::string> registry;
    qcow2::ChainOptions chain;
    device::MoveOptions how;
    bool abort = false;
    bool dry_run = false;
    bool json = false;
};

void run(const Options& o) {
    const device::Subject subject = device::subject(o.what);
    std::optional<device::ChainTurn> turn;
    if (!o.dry_run) turn.emplace(subject);
    std::optional<device::MovePlan> plan = device::find_move(subject, o.to, o.chain);
    if (o.abort) {
        if (!plan) throw failed("{}: no move to it was cut off", escaped(o.to));
        device::abort_move(*plan);
        fmt::print("{}: what the move left is gone\n", escaped(plan->to));
        return;
    }
    if (!plan) plan = device::plan_move(subject, o.layer, o.to, o.registry, o.chain);
    if (!o.dry_run) {
        if (subject.device) be_gentle();
        std::optional<Progress> progress;
        device::MoveOptions how = o.how;
        how.progress = [&](std::uint64_t done, std::uint64_t all) {
            if (!progress) progress.emplace("copying", all, Progress::Counts::bytes);
            progress->reach(done);
        };
        device::move_layer(subject, *plan, how);
    }
    if (o.json) {
        print_json(nlohmann::ordered_json{
            {subject.device ? "device" : "top", subject.device ? "/dev/mapper/" + subject.name : subject.name},
            {"from", plan->from.path},
            {"to", plan->to},
            {"copied_bytes", plan->bytes},
            {"dry_run", o.dry_run}});
        return;
    }
    fmt::print("{}: {} at {}\n", escaped(plan->from.path), o.dry_run ? "would be" : "is now", escaped(plan->to));
    if (o.dry_run) fmt::print("  {} to copy; the header of {} names it then\n", human_size(plan->bytes), escaped(plan->above));
}

}  // namespace

CLI::App* add_move(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("move", "Move a sealed layer to another place, while the device is in use or at rest");
    c->add_option("NAME|TOP", o->what, "Name of a device, or the image on top of a chain")->required();
    c->add_option("LAYER", o->layer, "Number, name or path of the layer")->required();
    c->add_option("NEWPATH", o->to, "Where it goes: a folder, or a file that is not there")->required();
    c->add_option("--registry", o->registry,
                  "Folder below which other chains may use the layer, besides the layers' own; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "TOP's");
    take_size(*c->add_option("--rate", o->how.rate, "Copy at most so many bytes a second, e.g. 50M"));
    c->add_flag("--dry-run", o->dry_run, "Only say what would be done");
    c->add_flag("--abort", o->abort, "Take away what a move that was cut off left");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
