// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain diff: the parts of a disk that are different at two points.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "chain/diff.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "device/point.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string what;
    std::string from;
    std::optional<std::string> to;
    qcow2::ChainOptions chain;
    bool json = false;
};

std::string quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void run(const Options& o) {
    const device::Subject subject = device::subject(o.what);
    if (!o.to) subject.sync();
    const qcow2::Chain chain = subject.open(held(o.chain));
    const chain::Points points{device::find_snapshot(chain, o.from), device::find_point(chain, o.to)};
    // There may be millions of them: printed as they come.
    std::uint64_t parts = 0, data = 0, zero = 0;
    if (o.json)
        fmt::print(
            "{{\n  \"from\": {},\n  \"from_layer\": {},\n  \"from_bytes\": {},\n  \"to\": {},\n  \"to_layer\": {},\n"
            "  \"to_bytes\": {},\n  \"parts\": [",
            *points.from, quoted(chain.layers()[*points.from]->file().name()), chain::bytes_from(chain, points), points.to,
            quoted(chain.layers()[points.to]->file().name()), chain::bytes_to(chain, points));
    chain::diff(chain, points, [&](const chain::Part& p) {
        if (o.json)
            fmt::print("{}\n    {{\"start\": {}, \"bytes\": {}, \"kind\": \"{}\"}}", parts ? "," : "", p.start, p.bytes,
                       p.zero ? "zero" : "data");
        else
            fmt::print("{} {} {}\n", p.start, p.bytes, p.zero ? "zero" : "data");
        (p.zero ? zero : data) += p.bytes;
        parts++;
    });
    if (o.json)
        fmt::print("{}],\n  \"data_bytes\": {},\n  \"zero_bytes\": {}\n}}\n", parts ? "\n  " : "", data, zero);
    else
        fmt::print("{}: {} bytes of data, {} bytes of zeroes\n", counted(parts, "part"), data, zero);
}

}  // namespace

CLI::App* add_diff(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("diff", "List the parts of a disk that are different at two snapshots");
    c->add_option("NAME", o->what, "Name of the device, or the image on top of a chain")->required();
    c->add_option("--from", o->from, "The snapshot to compare with: a number from 0, the base, or a path")
        ->type_name("SNAPSHOT")
        ->required();
    c->add_option_function<std::string>(
         "--to", [o](const std::string& s) { o->to = s; }, "The snapshot that is looked at (default: the state of now)")
        ->type_name("SNAPSHOT");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the chain's");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
