// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain seal: a plain qcow2 image of a layer that was active, or of all frozen layers of a device.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/background.hpp"
#include "device/layer.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string what;
    device::SealHow how;
    bool json = false;
};

nlohmann::json facts(const std::string& path, const qcow2::SealResult& r, bool dry_run) {
    nlohmann::json j = {{"path", absolute_name(path)},
                        {"was_sealed", r.was_sealed},
                        {"extended_l2", r.extended_l2},
                        {"file_bytes", r.bytes},
                        {"dry_run", dry_run}};
    if (!r.was_sealed) {
        j["clusters"] = r.clusters;
        j["partial_clusters"] = r.partial;
        j["l2_tables"] = r.tables;
    }
    return j;
}

void say(const std::string& path, const qcow2::SealResult& r, bool dry_run) {
    if (r.was_sealed)
        fmt::print("{}: is sealed already\n", escaped(path));
    else
        fmt::print("{}: {} {}, {} of them owned in part; {}{}\n", escaped(path), dry_run ? "would seal" : "sealed",
                   counted(r.clusters, "cluster"), r.partial, counted(r.tables, "L2 table"),
                   r.extended_l2 ? " with extended entries" : "");
}

// A name has no slash. If there is such a device it is meant, whatever lies in the current folder.
bool is_device_name(const std::string& what) {
    if (what.find('/') != std::string::npos) return false;
    std::error_code none;
    if (!std::filesystem::exists(what, none)) return true;
    const std::vector<dm::Device> all = dm::list_if_any();
    return std::any_of(all.begin(), all.end(), [&](const dm::Device& d) { return d.name == what; });
}

void run(const Options& o) {
    nlohmann::json layers = nlohmann::json::array();
    const auto report = [&](const std::string& path, const qcow2::SealResult& r) {
        if (o.json)
            layers.push_back(facts(path, r, o.how.dry_run));
        else
            say(path, r, o.how.dry_run);
    };
    if (is_device_name(o.what)) {
        device::seal_all_frozen(o.what, o.how, report);
    } else if (const auto use = device::user_of(identity_of(o.what))) {
        if (use->layer.state == "active")
            throw failed("{}: is the active layer of the device {}: take a snapshot, or remove the device, first",
                         escaped(o.what), escaped(use->device.name));
        report(o.what, use->layer.state == "frozen" ? device::seal_frozen(use->device, use->layer, o.how)
                                                    : device::seal_layer(o.what, o.how));
    } else {
        report(o.what, device::seal_layer(o.what, o.how));
    }
    if (o.json) print_json(nlohmann::json{{"layers", layers}});
}

}  // namespace

CLI::App* add_seal(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("seal", "Turn a layer that was active into a plain qcow2 image");
    c->add_option("FILE|NAME", o->what, "The layer, or a device whose frozen layers are all sealed")->required();
    add_seal_options(*c, o->how);
    add_take_over_option(*c, o->how.take_over);
    c->add_flag("--dry-run", o->how.dry_run, "Say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
