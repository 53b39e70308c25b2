// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain check: everything that is wrong with the images of a chain. Reads only.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands/print_json.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"
#include "qcow2/check.hpp"

namespace dmchain::commands {
namespace {

using Json = nlohmann::ordered_json;
using qcow2::Faults;

// Of faults of one kind that are printed as text.
constexpr std::size_t most_lines = 100;

// Clusters that the refcounts of a layer hold though nothing uses them.
struct Leak {
    std::string path;
    std::uint64_t clusters;
    std::uint64_t bytes;
};

struct Result {
    Faults faults{Faults::Mode::collect};
    std::optional<Error> stopped;  // what ended the way down
    std::size_t layers = 0;
    std::vector<std::string> warnings;
    std::vector<Leak> leaks;  // only if nothing is wrong: otherwise what a fault hides would seem to be one

    std::uint64_t count() const { return faults.count() + (stopped ? 1 : 0); }
};

// Checks the layers on all processors; what is found comes out in the order of the chain, base first.
void check_layers(const qcow2::Chain& chain, Result& result) {
    const auto& layers = chain.layers();
    std::uint64_t total = 0;
    for (const auto& layer : layers) total += layer->virtual_size();
    Progress progress("checking", total);
    // What is found of a layer, until those below it are done.
    std::vector<std::optional<Faults>> found(layers.size());
    std::size_t taken = 0;
    std::vector<std::uint64_t> leaked(layers.size());
    std::mutex result_lock;  // covers what is found
    share_out(layers.size(), 0, [&](Turns& turns, bool) {
        while (const auto i = turns.next()) {
            Faults faults(Faults::Mode::collect);
            leaked[*i] = qcow2::check_layer(*layers[*i], faults, [&](std::uint64_t bytes) { progress.add(bytes); });
            const std::lock_guard lock(result_lock);
            found[*i] = std::move(faults);
            for (; taken < found.size() && found[taken]; taken++) result.faults.take(std::move(*found[taken]));
        }
    });
    if (result.faults.count() != 0) return;
    for (std::size_t i = 0; i < layers.size(); i++)
        if (leaked[i] != 0) result.leaks.push_back({layers[i]->file().path(), leaked[i], leaked[i] << layers[i]->cluster_bits()});
}

void print_facts(const std::string& image, const Result& r) {
    Json j;
    j["image"] = absolute_name(image);
    j["layers_checked"] = r.layers;
    j["fault_count"] = r.count();
    j["messages"] = Json::array();
    for (const Faults::Line& line : r.faults.lines()) j["messages"].push_back(line.text());
    if (r.stopped) j["messages"].push_back(r.stopped->what());
    j["faults_not_listed"] = r.faults.not_listed();
    j["complete"] = !r.stopped;
    j["warnings"] = r.warnings;
    j["leaks"] = Json::array();
    for (const Leak& l : r.leaks)
        j["leaks"].push_back({{"path", l.path}, {"leaked_clusters", l.clusters}, {"leaked_bytes", l.bytes}});
    print_json(j);
}

// The first lines of each kind.
void print_faults(const Faults& faults) {
    struct Kind {
        std::size_t lines = 0;
        std::size_t lines_left_out = 0;
        std::uint64_t left_out = 0;
    };
    std::map<const char*, Kind> kinds;
    for (const Faults::Line& line : faults.lines()) {
        Kind& kind = kinds[line.kind];
        if (++kind.lines <= most_lines) continue;
        kind.lines_left_out++;
        kind.left_out += line.faults;
    }
    std::map<const char*, std::size_t> printed;
    for (const Faults::Line& line : faults.lines()) {
        if (++printed[line.kind] > most_lines) continue;
        fmt::print("{}\n", line.text());
        const Kind& kind = kinds[line.kind];
        if (printed[line.kind] == most_lines && kind.lines_left_out != 0)
            fmt::print("... and {} more lines of this kind, of {} faults; --json has them\n", kind.lines_left_out, kind.left_out);
    }
    if (faults.not_listed() != 0) fmt::print("... and {} more faults\n", faults.not_listed());
}

void print_text(const std::string& image, const Result& r) {
    print_faults(r.faults);
    if (r.stopped) fmt::print("{}\nWhat lies below that was not checked.\n", r.stopped->what());
    for (const Leak& l : r.leaks)
        fmt::print(
            "{}: leaked clusters: {} ({}), in use by their refcounts, but by nothing else; no data is in danger, "
            "\"qemu-img check -r leaks\" frees them\n",
            escaped(l.path), l.clusters, human_size(l.bytes));
    const std::string count = r.count() == 0 ? "no faults" : counted(r.count(), "fault");
    fmt::print("{}: {} checked, {}\n", escaped(image), counted(r.layers, "layer"), count);
}

Exit check(const ImageOptions& options, bool json) {
    Result result;
    try {
        qcow2::ChainOptions how = options.chain;
        how.in_use = true;
        qcow2::Chain chain(options.image, how, result.faults);
        say_warnings(chain);
        result.warnings = chain.warnings();
        result.layers = chain.layers().size();
        check_layers(chain, result);
        result.stopped = chain.stopped();
    } catch (const Error& e) {
        if (e.code() != Exit::damaged) throw;
        result.stopped = e;
    }
    (json ? print_facts : print_text)(options.image, result);
    if (result.faults.count() != 0) return Exit::damaged;
    return result.stopped ? result.stopped->code() : Exit::done;
}

}  // namespace

CLI::App* add_check(CLI::App& app, Exit& status) {
    CLI::App* command = app.add_subcommand("check", "Find everything that is wrong with the images of a chain");
    auto options = std::make_shared<ImageOptions>();
    auto json = std::make_shared<bool>(false);
    add_image_options(*command, *options);
    add_force_share(*command, *options);
    command->add_flag("--json", *json, "Print JSON");
    command->callback([options, json, &status] { status = check(*options, *json); });
    return command;
}

}  // namespace dmchain::commands
