// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain status: what the target says of one device, in words, or as ls does of all.
#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "commands/devices.hpp"
#include "commands/how_read.hpp"
#include "commands/registry.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

// Numbers in ascending order, as in "1-3, 7".
std::string ranges(const std::vector<std::uint16_t>& numbers) {
    std::string text;
    for (std::size_t i = 0, next; i < numbers.size(); i = next) {
        for (next = i + 1; next < numbers.size() && numbers[next] == numbers[next - 1] + 1;) next++;
        text += (text.empty() ? "" : ", ") + std::to_string(numbers[i]);
        if (next - i > 1) text += "-" + std::to_string(numbers[next - 1]);
    }
    return text;
}

void print_ways(const device::Live& l) {
    std::map<std::string, std::vector<std::uint16_t>> ways;
    for (const dm::OpenLayer& layer : l.layers) ways[layer.way].push_back(layer.id);
    for (auto& [way, ids] : ways) {
        std::sort(ids.begin(), ids.end());
        fmt::print("read             {} {}: {}\n", ids.size() == 1 ? "layer" : "layers", ranges(ids), how_read(way));
    }
}

void print(const device::Live& l) {
    const dm::Status& s = l.status;
    const dm::OpenLayer* active = l.active();
    fmt::print("device           /dev/mapper/{}\n", escaped(l.name));
    fmt::print("size             {} ({} bytes)\n", human_size(s.sectors * 512), s.sectors * 512);
    fmt::print("mode             {}{}\n", s.mode, s.needs_check == "-" ? "" : ", " + s.needs_check);
    fmt::print("chain file       {}{}\n", escaped(l.chain.path), device::has_name(l.chain) ? "" : " (removed)");
    fmt::print("layers           {}\n", s.depth);
    if (active)
        fmt::print("active layer     {}: {}\n", active->id, escaped(active->path));
    else
        fmt::print("active layer     none\n");
    for (const auto& f : l.frozen()) fmt::print("unsealed layer   {}: {}\n", f.id, escaped(f.path));
    print_ways(l);
    fmt::print("clusters         {} of {}, {} each; subblocks {}\n", s.clusters_allocated, s.clusters_total,
               human_size(s.cluster_sectors * 512), human_size(s.subblock_sectors * 512));
    if (active) fmt::print("log              {} written in {} commits\n", human_size(s.log_bytes), s.commits);
    fmt::print("index            {} of {} nodes in memory, {} of at most {}\n", s.nodes_resident, s.nodes_total,
               human_size(s.index_bytes), human_size(s.index_limit));
    fmt::print("lookups          {} hits, {} misses\n", s.hits, s.misses);
    fmt::print("compressed reads {}\n", s.compressed_reads);
}

}  // namespace

CLI::App* add_status(CLI::App& app, Exit&) {
    auto name = std::make_shared<std::string>();
    auto report = std::make_shared<Report<DeviceRow>>(device_report(""));
    CLI::App* c = app.add_subcommand("status", "Show the state of the device NAME");
    c->add_option("NAME", *name, "Name of the device")->required();
    report->add_options(*c);
    c->callback([name, report] {
        const dm::Device d = dm::find(*name);
        const device::Live live = device::look_at(*name);
        if (report->is_table())
            report->print({{d, live}});
        else
            print(live);
    });
    return c;
}

}  // namespace dmchain::commands
