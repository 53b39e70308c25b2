// SPDX-License-Identifier: GPL-2.0-or-later
// See devices.hpp.
#include "commands/devices.hpp"

#include <algorithm>

namespace dmchain::commands {

namespace {

using nlohmann::json;
using Row = DeviceRow;

}  // namespace

std::vector<Field<Row>> device_fields() {
    const auto number = [](auto member) { return [member](const Row& r) { return json(r.live.status.*member); }; };
    return {
        {"name", "of the device", false, [](const Row& r) { return json(r.live.name); }},
        {"device", "its path", false, [](const Row& r) { return json("/dev/mapper/" + r.live.name); }},
        {"bytes", "size of the disk", true, [](const Row& r) { return json(r.live.status.sectors * 512); }},
        {"mode", "ro, rw, out_of_space, released, or fail", false, number(&dm::Status::mode)},
        {"needs_check", "whether 'dmchain recover' must run before it is written again", false,
         [](const Row& r) { return json(r.live.status.needs_check != "-"); }},
        {"layer_count", "layers of the chain", false, number(&dm::Status::depth)},
        {"unsealed", "frozen layers that wait for 'dmchain seal'", false,
         [](const Row& r) { return json(r.live.frozen().size()); }},
        {"open_count", "how often it is open", false, [](const Row& r) { return json(r.device.open_count); }},
        {"read_only", "whether it can only be read", false, [](const Row& r) { return json(r.device.read_only); }},
        {"suspended", "whether it is suspended", false, [](const Row& r) { return json(r.device.suspended); }},
        {"active_layer", "where writes go", false,
         [](const Row& r) { return r.live.active() ? json(r.live.active()->path) : json(); }},
        {"active_id", "id of that layer in the index", false,
         [](const Row& r) { return r.live.active() ? json(r.live.active()->id) : json(); }},
        {"chain_file", "its chain file", false, [](const Row& r) { return json(r.live.chain.path); }},
        {"chain_file_lost", "whether somebody removed that", false,
         [](const Row& r) { return json(!device::has_name(r.live.chain)); }},
        {"file_count", "files and devices that it reads from", false, [](const Row& r) { return json(r.live.layers.size()); }},
        {"straight_count", "of these, files that it reads straight from the disk", false,
         [](const Row& r) { return json(std::ranges::count(r.live.layers, "extent", &dm::OpenLayer::way)); }},
        {"major", "of its device number", false, [](const Row& r) { return json(r.device.major); }},
        {"minor", "of its device number", false, [](const Row& r) { return json(r.device.minor); }},
        {"cluster_bytes", "unit of allocation", true, [](const Row& r) { return json(r.live.status.cluster_sectors * 512); }},
        {"subblock_bytes", "smallest unit of the index", true,
         [](const Row& r) { return json(r.live.status.subblock_sectors * 512); }},
        {"clusters", "clusters of the disk", false, number(&dm::Status::clusters_total)},
        {"clusters_allocated", "clusters that some layer has", false, number(&dm::Status::clusters_allocated)},
        {"index_nodes", "nodes of the index in the chain file", false, number(&dm::Status::nodes_total)},
        {"index_nodes_resident", "nodes of the index in memory", false, number(&dm::Status::nodes_resident)},
        {"index_bytes", "memory that the index takes", true, number(&dm::Status::index_bytes)},
        {"index_limit_bytes", "memory that the index may take", true, number(&dm::Status::index_limit)},
        {"commits", "commits since it was activated", false, number(&dm::Status::commits)},
        {"log_bytes", "written to the log since then", true, number(&dm::Status::log_bytes)},
        {"hits", "lookups answered from memory", false, number(&dm::Status::hits)},
        {"misses", "lookups that read a part of the index", false, number(&dm::Status::misses)},
        {"compressed_reads", "reads of compressed clusters", false, number(&dm::Status::compressed_reads)},
        {"table", "chain file and options of the table line", false,
         [](const Row& r) { return json(dm::parameters(r.live.name)); }},
    };
}

Report<Row> device_report(const std::string& standard) { return {"devices", device_fields(), standard}; }

}  // namespace dmchain::commands
