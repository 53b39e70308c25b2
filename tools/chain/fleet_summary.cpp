// SPDX-License-Identifier: GPL-2.0-or-later
// See fleet_summary.hpp.
#include "chain/fleet_summary.hpp"

#include <algorithm>
#include <set>

#include "chain/fleet_files.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

namespace {

constexpr std::int64_t day = 24 * 3600;
constexpr std::array<std::int64_t, 4> ages = {day, 7 * day, 30 * day, 365 * day};

void add_files(const Fleet& fleet, std::int64_t now, FleetSummary& out) {
    std::set<std::size_t> raw;
    for (const FleetLayer& l : fleet.layers)
        if (l.format == qcow2::Format::raw) raw.insert(l.file);
    for (std::size_t i = 0; i < fleet.files.size(); i++) {
        const FleetFile& f = fleet.files[i];
        const bool is_raw = raw.contains(i), is_qcow2 = f.is == FleetFile::Is::image && !f.data && !is_raw;
        out.raw += is_raw;
        out.data_files += f.data && !is_raw;
        out.qcow2 += is_qcow2;
        if (!is_raw && !f.data && !is_qcow2) {
            out.others += f.is == FleetFile::Is::other;
            continue;
        }
        out.written += f.written;
        out.file_bytes += f.identity.bytes;
        out.disk_bytes += f.disk_bytes;
        const std::int64_t time = f.identity.mtime_sec;
        out.images_by_age[static_cast<std::size_t>(
            std::find_if(ages.begin(), ages.end(), [&](std::int64_t a) { return now - time < a; }) - ages.begin())]++;
        out.oldest = out.newest ? std::min(out.oldest, time) : time;
        out.newest = std::max(out.newest, time);
    }
}

void add_layers(const Fleet& fleet, const FleetUsage& usage, FleetSummary& out) {
    for (std::size_t i = 0; i < usage.layers.size(); i++) {
        const LayerUsage& u = usage.layers[i];
        out.stored_bytes += u.stored_bytes;
        out.wasted_bytes += u.wasted_bytes;
        out.most_chains = std::max(out.most_chains, u.chains);
        if (u.chains == 1) out.freed_bytes += u.wasted_bytes;
        if (u.chains < 2) continue;
        const std::uint64_t bytes = fleet.files[fleet.layers[i].file].identity.bytes;
        out.shared_layers++;
        out.shared_bytes += bytes;
        out.not_copied_bytes += bytes * (u.chains - 1);
    }
}

void add_chains(const Fleet& fleet, const FleetUsage& usage, FleetSummary& out) {
    out.chains = fleet.chains.size();
    for (std::size_t i = 0; i < usage.chains.size(); i++) {
        const ChainUsage& u = usage.chains[i];
        if (!u.read) {
            out.broken++;
            continue;
        }
        out.lengths.push_back(fleet.chains[i].layers);
        out.virtual_sizes.push_back(u.virtual_bytes);
        out.virtual_bytes += u.virtual_bytes;
        out.live_bytes += u.live_bytes;
        for (std::size_t c = 0; c < depth_classes; c++) out.live_by_depth[c] += u.live_by_depth[c];
    }
    std::sort(out.lengths.begin(), out.lengths.end());
    std::sort(out.virtual_sizes.begin(), out.virtual_sizes.end());
}

std::vector<Orphan> orphans(const Fleet& fleet) {
    std::vector<Orphan> out;
    for (const FleetChainFile& c : fleet.chain_files) {
        const std::string& path = fleet.files[c.file].path;
        if (!c.layers)
            out.push_back({path, "a chain file that lists no layer"});
        else if (c.missing)
            out.push_back({path, fmt::format("a chain file of which {} of {} are gone, the first is {}", c.missing,
                                             counted(c.layers, "layer"), in_quotes(c.first_missing))});
    }
    for (const FleetFile& f : fleet.files)
        if (f.below && f.in_use() && !f.named() && !fleet.leftover(f.path))
            out.push_back({f.path,
                           "a layer that is not sealed, and that no chain file and no image names: 'dmchain recover' makes a "
                           "chain file for it, 'dmchain seal' an image of it"});
    for (const FleetLeftover& l : fleet.leftovers) {
        if (!l.named_by.empty()) continue;
        out.push_back({l.path, "left by an operation, perhaps one that is running: see 'dmchain gc --dry-run'"});
    }
    std::sort(out.begin(), out.end(), [](const Orphan& a, const Orphan& b) { return a.path < b.path; });
    return out;
}

}  // namespace

FleetSummary sum_up(const Fleet& fleet, const FleetUsage& usage, std::int64_t now) {
    FleetSummary out;
    out.chain_files = fleet.chain_files.size();
    add_files(fleet, now, out);
    add_layers(fleet, usage, out);
    add_chains(fleet, usage, out);
    out.orphans = orphans(fleet);
    return out;
}

std::uint64_t percentile(const std::vector<std::uint64_t>& sorted, unsigned of_hundred) {
    const std::size_t at = (sorted.size() * of_hundred + 99) / 100;
    return sorted[std::min(sorted.size() - 1, at ? at - 1 : 0)];
}

std::string class_name(std::size_t number) {
    if (number < 2) return std::to_string(number);
    const std::uint64_t first = std::uint64_t{1} << (number - 1);
    if (number + 1 == depth_classes) return fmt::format("{} and more", first);
    return fmt::format("{} to {}", first, 2 * first - 1);
}

}  // namespace dmchain::chain
