// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain check: everything that is wrong with the images of a chain. Reads only.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "commands/print_json.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/check.hpp"

namespace dmchain::commands {
namespace {

using Json = nlohmann::ordered_json;
using qcow2::Faults;

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
    std::vector<Faults> found(layers.size(), Faults(Faults::Mode::collect));
    std::vector<std::uint64_t> leaked(layers.size());
    std::atomic<std::size_t> next{0};
    std::exception_ptr problem;
    std::mutex problem_lock;
    auto work = [&] {
        try {
            for (std::size_t i; (i = next.fetch_add(1)) < layers.size();)
                leaked[i] = qcow2::check_layer(*layers[i], found[i], [&](std::uint64_t bytes) { progress.add(bytes); });
        } catch (...) {
            std::lock_guard lock(problem_lock);
            problem = std::current_exception();
            next = layers.size();
        }
    };
    {
        std::vector<std::jthread> threads;
        const std::size_t most = std::max(1u, std::thread::hardware_concurrency());
        for (std::size_t i = 1; i < std::min(most, layers.size()); i++) threads.emplace_back(work);
        work();
    }
    if (problem) std::rethrow_exception(problem);
    for (const Faults& f : found) result.faults.take(f);
    if (result.faults.count() != 0) return;
    for (std::size_t i = 0; i < layers.size(); i++)
        if (leaked[i] != 0) result.leaks.push_back({layers[i]->file().path(), leaked[i], leaked[i] << layers[i]->cluster_bits()});
}

void print_facts(const std::string& image, const Result& r) {
    Json j;
    j["image"] = absolute_name(image);
    j["layers_checked"] = r.layers;
    j["fault_count"] = r.count();
    j["messages"] = r.faults.messages();
    if (r.stopped) j["messages"].push_back(r.stopped->what());
    j["complete"] = !r.stopped;
    j["warnings"] = r.warnings;
    j["leaks"] = Json::array();
    for (const Leak& l : r.leaks)
        j["leaks"].push_back({{"path", l.path}, {"leaked_clusters", l.clusters}, {"leaked_bytes", l.bytes}});
    print_json(j);
}

void print_text(const std::string& image, const Result& r) {
    for (const std::string& m : r.faults.messages()) fmt::print("{}\n", m);
    if (r.faults.count() > r.faults.messages().size())
        fmt::print("... and {} more\n", r.faults.count() - r.faults.messages().size());
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
