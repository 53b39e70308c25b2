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
#include "commands/registry.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/check.hpp"

namespace dmchain::commands {
namespace {

using Json = nlohmann::ordered_json;
using qcow2::Faults;

// Checks the layers on all processors; the faults come out in the order of the chain, base first.
void check_layers(const qcow2::Chain& chain, Faults& faults) {
    const auto& layers = chain.layers();
    std::uint64_t total = 0;
    for (const auto& layer : layers) total += layer->virtual_size();
    Progress progress("checking", total);
    std::vector<Faults> found(layers.size(), Faults(Faults::Mode::collect));
    std::atomic<std::size_t> next{0};
    std::exception_ptr problem;
    std::mutex problem_lock;
    auto work = [&] {
        try {
            for (std::size_t i; (i = next.fetch_add(1)) < layers.size();)
                qcow2::check_layer(*layers[i], found[i], [&](std::uint64_t bytes) { progress.add(bytes); });
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
    for (const Faults& f : found) faults.take(f);
}

void print_facts(const std::string& image, std::size_t layers, const Faults& faults, const std::optional<Error>& stopped) {
    Json j;
    j["image"] = image;
    j["layers_checked"] = layers;
    j["faults"] = faults.count() + (stopped ? 1 : 0);
    j["messages"] = faults.messages();
    if (stopped) j["messages"].push_back(stopped->what());
    j["complete"] = !stopped;
    print_json(j);
}

void print_text(const std::string& image, std::size_t layers, const Faults& faults, const std::optional<Error>& stopped) {
    for (const std::string& m : faults.messages()) fmt::print("{}\n", m);
    if (faults.count() > faults.messages().size())
        fmt::print("... and {} more\n", faults.count() - faults.messages().size());
    if (stopped) fmt::print("{}\nWhat lies below that was not checked.\n", stopped->what());
    const std::uint64_t count = faults.count() + (stopped ? 1 : 0);
    if (count == 0)
        fmt::print("{}: {} layer{} checked, no faults\n", escaped(image), layers, layers == 1 ? "" : "s");
    else
        fmt::print("{}: {} layer{} checked, {} fault{}\n", escaped(image), layers, layers == 1 ? "" : "s", count,
                   count == 1 ? "" : "s");
}

Exit check(const ImageOptions& options, bool json) {
    Faults faults(Faults::Mode::collect);
    std::optional<Error> stopped;
    std::size_t layers = 0;
    try {
        qcow2::ChainOptions how = options.chain;
        how.in_use = true;
        qcow2::Chain chain(options.image, how, faults);
        layers = chain.layers().size();
        check_layers(chain, faults);
        stopped = chain.stopped();
    } catch (const Error& e) {
        if (e.code() != Exit::damaged) throw;
        stopped = e;
    }
    (json ? print_facts : print_text)(options.image, layers, faults, stopped);
    if (faults.count() != 0) return Exit::damaged;
    return stopped ? stopped->code() : Exit::done;
}

}  // namespace

void add_check(CLI::App& app, Exit& status) {
    CLI::App* command = app.add_subcommand("check", "Find everything that is wrong with the images of a chain");
    auto options = std::make_shared<ImageOptions>();
    auto json = std::make_shared<bool>(false);
    add_image_options(*command, *options);
    command->add_flag("--json", *json, "Print the result as JSON");
    command->callback([options, json, &status] { status = check(*options, *json); });
}

}  // namespace dmchain::commands
