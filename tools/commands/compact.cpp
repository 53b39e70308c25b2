// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain compact: merges neighbouring sealed layers of a chain, which a device may have in use.
#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/compact.hpp"
#include "device/prune.hpp"
#include "device/turn.hpp"
#include "io/progress.hpp"
#include "io/scheduling.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string what;
    std::string range;
    std::vector<std::string> remove;
    std::vector<std::string> keep;
    std::string older_than;
    bool flatten = false;
    bool into_base = false;
    bool prune = false;
    std::size_t max_layers = 0;
    std::string by;
    bool compress = false;
    std::vector<std::string> registry;
    qcow2::ChainOptions chain;
    bool plan = false;
    bool keep_old = false;
    bool verify = false;
    bool idle = false;
    std::uint64_t rate = 0;
    std::string budget;
    bool abort = false;
    bool json = false;
};

// "3..7", "monday..friday"
std::pair<std::string, std::string> parse_range(const std::string& text) {
    const std::size_t dots = text.find("..");
    if (dots == std::string::npos || dots == 0 || dots + 2 >= text.size())
        throw Error(Exit::usage, fmt::format("compact: --range {}: expected two snapshots, such as 3..7, the lower one first",
                                             in_quotes(text)));
    return {text.substr(0, dots), text.substr(dots + 2)};
}

// "30d": seconds.
std::int64_t parse_time(const char* option, const std::string& text) {
    static constexpr struct {
        char unit;
        std::int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
    std::int64_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error == std::errc() && n >= 0 && end + 1 == text.data() + text.size())
        for (const auto& u : units)
            if (*end == u.unit && n <= INT64_MAX / u.seconds) return n * u.seconds;
    throw Error(Exit::usage,
                fmt::format("compact: {} {}: expected a number and s, m, h, d or w, such as 30d", option, in_quotes(text)));
}

device::Selection selection_of(const Options& o) {
    device::Selection s;
    if (!o.range.empty()) s.range = parse_range(o.range);
    s.remove = o.remove;
    if (!o.keep.empty()) s.keep = o.keep;
    if (!o.older_than.empty()) s.older_than = std::time(nullptr) - parse_time("--older-than", o.older_than);
    s.flatten = o.flatten;
    s.max_layers = o.max_layers;
    s.into_base = o.into_base;
    s.keep_old = o.keep_old;
    if (o.compress) s.way = device::Way::compress;
    for (const device::Way w : {device::Way::new_file, device::Way::reflink, device::Way::in_place})
        if (o.by == device::name_of(w)) s.way = w;
    return s;
}

// How many ways to choose layers were given. --keep and --older-than go together: old ones that are not to be kept.
int ways(const Options& o) {
    return !o.range.empty() + !o.remove.empty() + (o.prune || !o.keep.empty() || !o.older_than.empty()) + o.flatten +
           o.into_base + (o.max_layers != 0);
}

std::string name_of(const device::Subject& s) { return s.device ? "/dev/mapper/" + s.name : s.name; }

nlohmann::ordered_json facts(const device::Subject& subject, const device::CompactPlan& p, bool complete) {
    nlohmann::ordered_json merges = nlohmann::ordered_json::array(), skipped = nlohmann::ordered_json::array();
    for (const auto& m : p.merges) {
        nlohmann::json layers = nlohmann::json::array();
        for (std::size_t i = m.range.first; i <= m.range.last; i++) layers.push_back(p.images[i].path);
        merges.push_back({{"first", m.range.first},
                          {"last", m.range.last},
                          {"layers", layers},
                          {"merged_layer", p.images[m.range.last].path},
                          {"way", device::name_of(m.way)},
                          {"copied_bytes", m.size.copied()},
                          {"extra_bytes", m.size.space},
                          {"freed_bytes", m.freed}});
    }
    for (const auto& s : p.skipped)
        skipped.push_back({{"number", s.number}, {"path", p.images[s.number].path}, {"reason", s.why}});
    return {{subject.device ? "device" : "top", name_of(subject)},
            {"merges", merges},
            {"skipped", skipped},
            {"copied_bytes", p.copied},
            {"extra_bytes", p.peak},
            {"freed_bytes", p.freed},
            {"layer_count", p.layers_left()},
            {"complete", complete}};
}

void print_plan(const device::Subject& subject, const device::CompactPlan& p) {
    const std::string name = escaped(name_of(subject));
    for (const auto& s : p.skipped)
        fmt::print("{}: layer {} stays: {} {}\n", name, s.number, escaped(p.images[s.number].path), s.why);
    if (p.merges.empty()) fmt::print("{}: {}: nothing to merge\n", name, counted(p.layers_left(), "layer"));
    for (const auto& m : p.merges) {
        const char* how = m.way == device::Way::in_place   ? ", added to the lowest of them"
                          : m.way == device::Way::reflink  ? ", which shares their blocks"
                          : m.way == device::Way::compress ? ", compressed"
                                                           : "";
        fmt::print("{}: layers {} to {} of {} become one, {}{}: {} to copy\n", name, m.range.first, m.range.last, p.images.size(),
                   escaped(p.images[m.range.last].path), how, human_size(m.size.copied()));
    }
    if (!p.merges.empty())
        fmt::print("  {} to copy, free space needed {}, given back in the end {}; {} left\n", human_size(p.copied),
                   human_size(p.peak), human_size(p.freed), counted(p.layers_left(), "layer"));
}

void run_prune(const Options& o, const device::Subject& subject) {
    const device::PrunePlan p = device::plan_prune(subject, o.keep, o.registry, o.chain);
    if (!o.plan) device::prune(subject, p);
    nlohmann::ordered_json layers = nlohmann::ordered_json::array(), skipped = nlohmann::ordered_json::array();
    for (const auto& l : p.layers)
        layers.push_back({{"number", l.number}, {"path", p.images[l.number].path}, {"freed_bytes", l.freed}});
    for (const auto& s : p.skipped)
        skipped.push_back({{"number", s.number}, {"path", p.images[s.number].path}, {"reason", s.why}});
    if (o.json) {
        print_json(nlohmann::ordered_json{{subject.device ? "device" : "top", name_of(subject)},
                                          {"pruned", layers},
                                          {"skipped", skipped},
                                          {"freed_bytes", p.freed},
                                          {"complete", !o.plan}});
        return;
    }
    const std::string name = escaped(name_of(subject));
    for (const auto& s : p.skipped)
        fmt::print("{}: layer {} stays: {} {}\n", name, s.number, escaped(p.images[s.number].path), s.why);
    for (const auto& l : p.layers)
        fmt::print("{}: layer {}, {}: {} {}; it {} no snapshot any more\n", name, l.number, escaped(p.images[l.number].path),
                   o.plan ? "would give back" : "gave back", human_size(l.freed), o.plan ? "would be" : "is");
    if (p.layers.empty()) fmt::print("{}: nothing to give back\n", name);
}

// As the options say how to copy.
device::CompactOptions how_to(const Options& o) {
    device::CompactOptions how;
    how.keep_old = o.keep_old;
    how.verify = o.verify;
    how.rate = o.rate;
    if (!o.budget.empty()) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(parse_time("--budget", o.budget));
        how.stop = [end] { return std::chrono::steady_clock::now() >= end; };
    }
    return how;
}

void say_stopped(const Options& o, const device::Subject& subject) {
    if (!o.json)
        fmt::print("{}: the time is over; the same command, or 'dmchain compact {}', goes on\n", escaped(name_of(subject)),
                   escaped(o.what));
}

void run(const Options& o) {
    if (ways(o) + o.abort > 1)
        throw Error(Exit::usage,
                    "compact: expected one of --range, --delete, --flatten, --into-base, --max-layers, --abort, or --keep with "
                    "--older-than or --prune");
    const device::Selection selection = selection_of(o);
    device::CompactOptions how = how_to(o);
    device::Subject subject = device::subject(o.what);
    std::optional<device::ChainTurn> turn;
    if (!o.plan) turn.emplace(subject);
    if (o.prune && (!o.older_than.empty() || !o.by.empty() || o.compress))
        throw Error(Exit::usage, "compact: --prune goes with --keep alone");
    if (o.into_base && !o.by.empty()) throw Error(Exit::usage, "compact: --into-base is --by in-place already");
    if (o.compress && (o.into_base || !o.by.empty()))
        throw Error(Exit::usage, "compact: --compress: what is compressed goes into a new file: leave out --into-base and --by");
    if (o.compress && !o.budget.empty())
        throw Error(Exit::usage,
                    "compact: --budget: a merge that compresses cannot go on where it stopped: leave out --compress or --budget");
    if (o.abort) {
        if (!device::abort_compact(subject, o.chain)) throw failed("{}: no merge was cut off", escaped(o.what));
        fmt::print("{}: what the merge left is gone\n", escaped(name_of(subject)));
        return;
    }
    if (o.idle)
        be_idle();
    else if (subject.device)
        be_gentle();
    std::optional<Progress> progress;
    std::uint64_t last = 0;
    how.progress = [&](std::uint64_t done, std::uint64_t all) {
        if (done < last) progress.reset();  // the next merge
        last = done;
        if (!progress && all) progress.emplace("copying", all, Progress::Counts::bytes);
        if (progress) progress->reach(done);
    };
    device::Resumed resumed = device::Resumed::nothing;
    if (o.plan)
        device::require_no_merge(subject, o.chain);
    else
        resumed = device::resume_compact(subject, *turn, o.chain, how);
    progress.reset();
    if (resumed == device::Resumed::stopped) {
        if (o.json) print_json(nlohmann::json{{subject.device ? "device" : "top", name_of(subject)}, {"complete", false}});
        return say_stopped(o, subject);
    }
    const bool went_on = resumed == device::Resumed::done;
    if (went_on && !o.json) fmt::print("{}: the merge that was cut off is done\n", escaped(name_of(subject)));
    // What was cut off may have been these very layers: they are gone, and numbers mean others now.
    if (went_on && (!ways(o) || !o.range.empty() || !o.remove.empty() || !o.keep.empty())) {
        if (o.json) print_json(nlohmann::json{{subject.device ? "device" : "top", name_of(subject)}, {"complete", true}});
        return;
    }
    if (!ways(o))
        throw Error(Exit::usage,
                    "compact: expected --range, --delete, --keep, --older-than, --flatten, --into-base, --prune or --max-layers");
    if (o.prune) return run_prune(o, subject);
    if (went_on) subject = device::subject(o.what);
    device::CompactPlan plan = device::plan_compact(subject, selection, o.registry, o.chain);
    if (!o.json) print_plan(subject, plan);
    const bool complete = turn && device::compact(subject, *turn, plan, how);
    progress.reset();
    std::optional<double> seconds;
    if (o.plan) seconds = device::copy_seconds(plan, o.rate);
    if (seconds && plan.copied && !o.json) fmt::print("  copying takes about {} here\n", human_time(*seconds));
    if (o.json) {
        nlohmann::ordered_json j = facts(subject, plan, complete);
        if (seconds) j["seconds"] = std::ceil(*seconds);
        return print_json(j);
    }
    if (!o.plan && !complete) return say_stopped(o, subject);
    if (!o.plan && !plan.merges.empty()) fmt::print("{}: done\n", escaped(name_of(subject)));
}

}  // namespace

CLI::App* add_compact(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("compact", "Merge sealed layers of a device in use, or of a chain, into fewer ones");
    const auto list = [&](const char* name, std::vector<std::string>& to, const char* help, const char* type) {
        c->add_option(name, to, help)->type_name(type)->allow_extra_args(false)->delimiter(',');
    };
    c->add_option("NAME|TOP", o->what, "Name of a device, or the image on top of a chain")->required();
    c->add_option("--range", o->range, "Merge these layers into one, by number from the base, which is 0, or name")
        ->type_name("A..B");
    list("--delete", o->remove, "Delete these snapshots: each is merged into the layer above it", "SNAPSHOT[,...]");
    list("--keep", o->keep, "Delete all snapshots but these and the last", "SNAPSHOT[,...]");
    c->add_option("--older-than", o->older_than, "Delete the snapshots that are older, with s, m, h, d or w behind the number")
        ->type_name("AGE");
    c->add_flag("--flatten", o->flatten, "Merge all sealed layers into one");
    c->add_flag("--into-base", o->into_base, "Add all sealed layers to the base, in place");
    c->add_flag("--prune", o->prune,
                "Merge nothing: give back what of lower layers neither the topmost snapshot nor one of --keep shows");
    c->add_option("--max-layers", o->max_layers, "Merge as many layers as it takes so that N are left, the cheapest neighbours")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
    c->add_option("--registry", o->registry,
                  "Folder below which other chains may use the layers, besides the layers' own; repeatable")
        ->type_name("DIR")
        ->allow_extra_args(false);
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "TOP's");
    c->add_option(
         "--by", o->by,
         "How layers become one: copied into a new file, into a file that shares their blocks, or added to the lowest itself "
         "(default: whatever is best)")
        ->type_name("WAY")
        ->check(CLI::IsMember({"new-file", "reflink", "in-place"}));
    c->add_flag("--compress", o->compress,
                "Into a new file, with its clusters compressed by zstd: for layers that are seldom read");
    c->add_flag("--plan", o->plan, "Only say what would be done");
    c->add_flag("--verify", o->verify, "Read what was copied again, and compare it");
    take_size(*c->add_option("--rate", o->rate, "Copy at most so many bytes a second, e.g. 50M"));
    c->add_flag("--idle", o->idle, "Let everybody else's work go first, as far as the schedulers of processors and disks can");
    c->add_option("--budget", o->budget, "Stop copying after this time; the same command goes on later")->type_name("TIME");
    c->add_flag("--keep-old", o->keep_old, "Leave the files that were merged where they are");
    c->add_flag("--abort", o->abort, "Take away what a merge that was cut off left");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
