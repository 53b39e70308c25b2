// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain doctor: whether this machine has what devices need, and what to do about what it has not.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/doctor.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::vector<std::string> chains;
    bool json = false;
};

void print_facts(const std::vector<device::Finding>& findings, bool sound) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const device::Finding& f : findings)
        list.push_back({{"subject", f.subject}, {"level", name_of(f.level)}, {"found", f.found}, {"advice", f.advice}});
    print_json(nlohmann::ordered_json{{"sound", sound}, {"findings", list}});
}

Exit run(const Options& o) {
    const std::vector<device::Finding> findings = device::examine(o.chains);
    const bool sound =
        std::none_of(findings.begin(), findings.end(), [](const auto& f) { return f.level == device::Level::wrong; });
    if (o.json)
        print_facts(findings, sound);
    else
        for (const device::Finding& f : findings)
            fmt::print("{:<8} {}: {}{}\n", name_of(f.level), f.subject, f.found, f.advice.empty() ? "" : ": " + f.advice);
    return sound ? Exit::done : Exit::failed;
}

}  // namespace

CLI::App* add_doctor(CLI::App& app, Exit& status) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("doctor", "Find out whether this machine has what devices need");
    c->add_option("IMAGE|CHAIN", o->chains, "Images or chain files: what they need is looked at, too");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o, &status] { status = run(*o); });
    return c;
}

}  // namespace dmchain::commands
