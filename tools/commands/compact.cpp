// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain compact: merges neighbouring sealed layers of a device while it is in use.
#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/compact.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    std::string range;
    std::size_t max_layers = 0;
    bool plan = false;
    bool keep_old = false;
    bool abort = false;
    bool json = false;
};

// "3..7"
device::Range parse_range(const std::string& text) {
    device::Range r{};
    const char* end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, r.first);
    const bool dots = first.ec == std::errc() && end - first.ptr > 2 && first.ptr[0] == '.' && first.ptr[1] == '.';
    const auto last = dots ? std::from_chars(first.ptr + 2, end, r.last) : first;
    if (!dots || last.ec != std::errc() || last.ptr != end)
        throw Error(Exit::usage, fmt::format("compact: --range {}: expected two layer numbers, such as 3..7", in_quotes(text)));
    return r;
}

// The neighbours above the base that are cheapest to merge so that @most layers are left; none if there are no more.
std::optional<device::Range> choose(const device::Live& device, std::size_t most) {
    std::vector<std::uint64_t> bytes;
    std::size_t sealed = 0;
    for (const dm::OpenLayer& l : device.layers) {
        if (l.state == "data") continue;
        if (l.state == "sealed") sealed = bytes.size() + 1;
        bytes.push_back(device::has_name(l) ? identity_of(device::name_of(l, device.name)).bytes : 0);
    }
    if (bytes.size() <= most) return std::nullopt;
    const std::size_t merged = bytes.size() - most + 1;
    if (most < 2 || sealed < 1 + merged)
        throw failed("{}: {} layers cannot become {}: the base and the layers that are not sealed stay", escaped(device.name),
                     bytes.size(), most);
    std::optional<device::Range> best;
    std::uint64_t least = 0;
    for (std::size_t first = 1; first + merged <= sealed; first++) {
        std::uint64_t sum = 0;
        for (std::size_t i = first; i < first + merged; i++) sum += bytes[i];
        if (best && sum >= least) continue;
        best = device::Range{first, first + merged - 1};
        least = sum;
    }
    return best;
}

nlohmann::json facts(const device::CompactPlan& p, const device::Range& r) {
    nlohmann::json layers = nlohmann::json::array();
    for (const dm::OpenLayer& l : p.layers) layers.push_back(l.path);
    return {{"device", "/dev/mapper/" + p.device},
            {"first", r.first},
            {"last", r.last},
            {"layers", layers},
            {"merged_layer", p.path},
            {"copied_bytes", p.size.bytes},
            {"extra_bytes", p.size.space},
            {"freed_bytes", p.freed},
            {"layer_count", p.depth - p.layers.size() + 1}};
}

void print_plan(const device::CompactPlan& p, const device::Range& r) {
    fmt::print("/dev/mapper/{}: layers {} to {} of {} become one, {}\n", escaped(p.device), r.first, r.last, p.depth,
               escaped(p.path));
    fmt::print("  to copy {}, free space needed {}, given back in the end {}; {} left\n", human_size(p.size.bytes),
               human_size(p.size.space), human_size(p.freed), counted(p.depth - p.layers.size() + 1, "layer"));
}

void run(const Options& o) {
    if (o.abort + !o.range.empty() + (o.max_layers != 0) > 1)
        throw Error(Exit::usage, "compact: expected one of --range, --max-layers and --abort");
    const device::Live live = device::look_at(o.name);
    std::optional<device::CompactTurn> turn;
    if (!o.plan) turn.emplace(live);
    if (o.abort) {
        if (!device::abort_compact(live)) throw failed("{}: no merge was cut off", escaped(o.name));
        fmt::print("/dev/mapper/{}: what the merge left is gone\n", escaped(o.name));
        return;
    }
    std::optional<Progress> progress;
    device::CompactOptions how;
    how.keep_old = o.keep_old;
    how.progress = [&](std::uint64_t done, std::uint64_t all) {
        if (!progress && all) progress.emplace("copying", all);
        if (progress) progress->reach(done);
    };
    const bool resumed = !o.plan && device::resume_compact(live, how);
    if (resumed && !o.json) fmt::print("/dev/mapper/{}: the merge that was cut off is done\n", escaped(o.name));
    if (o.range.empty() && !o.max_layers) {
        if (!resumed) throw Error(Exit::usage, "compact: expected --range or --max-layers");
        return;
    }
    // What was cut off may have been this very range: its numbers mean other layers now.
    if (resumed && !o.range.empty()) return;
    const device::Live now = resumed ? device::look_at(o.name) : live;
    const std::optional<device::Range> range = o.max_layers ? choose(now, o.max_layers) : parse_range(o.range);
    if (!range) {
        if (o.json)
            print_json(nlohmann::json{{"device", "/dev/mapper/" + o.name}, {"layer_count", now.status.depth}});
        else
            fmt::print("/dev/mapper/{}: {}: nothing to merge\n", escaped(o.name), counted(now.status.depth, "layer"));
        return;
    }
    const device::CompactPlan plan = device::plan_compact(now, *range);
    if (!o.json) print_plan(plan, *range);
    if (!o.plan) device::compact(plan, how);
    progress.reset();
    if (o.json)
        print_json(facts(plan, *range));
    else if (!o.plan)
        fmt::print("/dev/mapper/{}: merged into {}\n", escaped(o.name), escaped(plan.path));
}

}  // namespace

CLI::App* add_compact(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("compact", "Merge sealed layers of the device NAME into one while it is in use");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_option("--range", o->range, "The layers to merge, by their numbers from the base, which is 0")->type_name("A..B");
    c->add_option("--max-layers", o->max_layers, "Merge as many layers as it takes so that N are left, the cheapest neighbours")
        ->type_name("N");
    c->add_flag("--plan", o->plan, "Only say what would be done");
    c->add_flag("--keep-old", o->keep_old, "Leave the files that were merged where they are");
    c->add_flag("--abort", o->abort, "Take away what a merge that was cut off left");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
