// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain status: what the target says of itself, in words.
#include <memory>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "dm/device.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

void print(const std::string& name, const dm::Status& s) {
    fmt::print("device           /dev/mapper/{}\n", escaped(name));
    fmt::print("size             {} ({} bytes)\n", human_size(s.sectors * 512), s.sectors * 512);
    fmt::print("mode             {}{}\n", s.mode, s.needs_check == "-" ? "" : ", " + s.needs_check);
    fmt::print("layers           {}\n", s.depth);
    fmt::print("active layer     {}\n", s.active == "-" ? "none" : s.active);
    fmt::print("clusters         {} of {}, {} each; subblocks {}\n", s.clusters_allocated, s.clusters_total,
               human_size(s.cluster_sectors * 512), human_size(s.subblock_sectors * 512));
    fmt::print("index            {} of {} nodes in memory, {} of at most {}\n", s.nodes_resident, s.nodes_total,
               human_size(s.index_bytes), human_size(s.index_limit));
    fmt::print("lookups          {} hits, {} misses\n", s.hits, s.misses);
    fmt::print("compressed reads {}\n", s.compressed_reads);
}

nlohmann::json as_json(const std::string& name, const dm::Status& s) {
    return {{"name", name},
            {"bytes", s.sectors * 512},
            {"mode", s.mode},
            {"needs_check", s.needs_check != "-"},
            {"depth", s.depth},
            {"active", s.active == "-" ? nlohmann::json(nullptr) : nlohmann::json(std::stoul(s.active))},
            {"cluster_bytes", s.cluster_sectors * 512},
            {"subblock_bytes", s.subblock_sectors * 512},
            {"clusters_allocated", s.clusters_allocated},
            {"clusters", s.clusters_total},
            {"index_nodes_resident", s.nodes_resident},
            {"index_nodes", s.nodes_total},
            {"index_bytes", s.index_bytes},
            {"index_limit", s.index_limit},
            {"commits", s.commits},
            {"log_bytes", s.log_bytes},
            {"hits", s.hits},
            {"misses", s.misses},
            {"compressed_reads", s.compressed_reads}};
}

}  // namespace

void add_status(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        bool json = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("status", "Show the state of the device NAME");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] {
        const dm::Status s = dm::status(o->name);
        if (o->json)
            print_json(as_json(o->name, s));
        else
            print(o->name, s);
    });
}

}  // namespace dmchain::commands
