// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain inspect: what a chain is made of, and what is on its disk. Reads only.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "commands/how_read.hpp"
#include "commands/options.hpp"
#include "commands/owner_plot.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "commands/write_file.hpp"
#include "device/content.hpp"
#include "device/live.hpp"
#include "io/gnuplot.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/survey.hpp"

namespace dmchain::commands {
namespace {

using Json = nlohmann::ordered_json;
using qcow2::Layer;

std::vector<std::string> features(const Layer& layer) {
    std::vector<std::string> out;
    if (!layer.image()) return out;
    const qcow2::Header& h = layer.image()->header();
    if (const qcow2::Log* log = layer.image()->log())
        out.emplace_back(log->successor() ? "frozen, not sealed" : "active layer of dm-chain");
    if (h.corrupt()) out.emplace_back("marked corrupt");
    if (h.dirty()) out.emplace_back("dirty");
    if (h.compatible & qcow2::compatible_lazy_refcounts) out.emplace_back("lazy refcounts");
    if (h.extended_l2()) out.emplace_back("extended L2");
    if (h.compression != qcow2::Compression::zlib) out.emplace_back(qcow2::name_of(h.compression));
    if (h.has_data_file()) out.emplace_back(h.data_file_raw() ? "raw data file" : "data file");
    if (h.bitmaps != 0) out.push_back(counted(h.bitmaps, "bitmap"));
    if (h.snapshots != 0) out.push_back(counted(h.snapshots, "internal snapshot"));
    return out;
}

// The device that has the image on top of the chain, and how it reads the others.
class Reading {
public:
    explicit Reading(const qcow2::Chain& chain) : use_(device::user_of(chain.top().file().identity())) {}

    // nullptr: no device has it.
    const std::string* device() const { return use_ ? &use_->device.name : nullptr; }
    // The target's word; "": no device reads this one.
    std::string way(const Layer& layer) const {
        if (!use_) return "";
        for (const dm::OpenLayer& l : use_->device.layers)
            if (l.is(layer.file().identity())) return l.way;
        return "";
    }

private:
    const std::optional<device::Use> use_;
};

Json layer_json(const Layer& layer, const qcow2::Usage& usage, std::size_t number, const Reading& reading) {
    Json j;
    j["number"] = number;
    j["path"] = layer.file().path();
    j["type"] = layer.file().identity().block_device ? "device" : "file";
    j["format"] = qcow2::name_of(layer.format());
    j["virtual_bytes"] = layer.virtual_size();
    j["file_bytes"] = layer.file().size();
    if (const qcow2::Image* image = layer.image()) {
        const qcow2::Header& h = image->header();
        j["version"] = h.version;
        j["cluster_bytes"] = h.cluster_size();
        j["unit_bytes"] = image->unit();
        j["compression"] = qcow2::name_of(h.compression);
        j["l2_tables"] = image->l2_tables();
        j["features"] = features(layer);
        j["backing_file"] = h.backing_name ? Json(*h.backing_name) : Json();
        j["backing_format"] = h.backing_format ? Json(*h.backing_format) : Json();
        j["data_file"] = image->data_file() ? Json(image->data_file()->path()) : Json();
        Json snapshots = Json::array();
        for (const qcow2::Snapshot& s : image->snapshots())
            snapshots.push_back(
                {{"id", s.id}, {"name", s.name}, {"virtual_bytes", s.size}, {"vm_state_bytes", s.vm_state_bytes}});
        j["snapshots"] = snapshots;
    }
    if (layer.format() == qcow2::Format::raw) j["offset"] = layer.raw_begin();
    j["clusters"] = usage.clusters;
    j["live_clusters"] = usage.live_clusters;
    j["live_bytes"] = usage.live_bytes;
    if (const std::string way = reading.way(layer); !way.empty()) j["read"] = way;
    return j;
}

Json content_json(const device::Content& c) {
    Json j;
    if (c.partition != 0) j["partition"] = c.partition;
    j["offset"] = c.offset;
    j["bytes"] = c.bytes;
    auto set = [&](const char* key, const std::string& value) {
        if (!value.empty()) j[key] = value;
    };
    set("partition_table", c.table);
    set("partition_name", c.part_name);
    set("type", c.type);
    set("label", c.label);
    set("uuid", c.uuid);
    return j;
}

void print_layer(const Layer& layer, const qcow2::Usage& usage, std::size_t number, const Reading& reading) {
    // The tree of a chain has one branch; so its place is a number, and the line stays short at any depth.
    fmt::print("{:>4}  {}\n", number, escaped(layer.file().path()));
    std::string what = qcow2::name_of(layer.format());
    if (layer.image())
        what += fmt::format(" v{}, clusters of {}", layer.image()->header().version,
                            human_size(layer.image()->header().cluster_size()));
    if (layer.format() == qcow2::Format::raw && (layer.raw_begin() != 0 || layer.virtual_size() < layer.file().size()))
        what += fmt::format(", {} bytes at {} of the file", layer.virtual_size(), layer.raw_begin());
    if (layer.file().identity().block_device) what += ", block device";
    for (const std::string& f : features(layer)) what += ", " + f;
    fmt::print("      {}\n", what);
    if (const File* data = layer.data_file())
        fmt::print("      data file {} ({})\n", escaped(data->path()), human_size(data->size()));
    fmt::print("      disk {}, file {}, live {} of {} clusters ({})\n", human_size(layer.virtual_size()),
               human_size(layer.file().size()), usage.live_clusters, usage.clusters, human_size(usage.live_bytes));
    if (const std::string way = reading.way(layer); !way.empty()) fmt::print("      read {}\n", how_read(way));
    if (layer.image())
        for (const qcow2::Snapshot& s : layer.image()->snapshots())
            fmt::print("      internal snapshot {} {}, disk {}{}\n", escaped(s.id), in_quotes(s.name), human_size(s.size),
                       s.vm_state_bytes ? ", state of a machine " + human_size(s.vm_state_bytes) : "");
}

void print_content(const device::Content& c) {
    std::string line = c.partition == 0 ? std::string("disk") : fmt::format("partition {}", c.partition);
    line += fmt::format(", {}", human_size(c.bytes));
    if (c.partition != 0) line += fmt::format(" at {}", c.offset);
    if (!c.table.empty()) line += ", partition table " + escaped(c.table);
    if (!c.part_name.empty()) line += ", name " + in_quotes(c.part_name);
    if (!c.type.empty()) line += ", " + escaped(c.type);
    if (!c.label.empty()) line += ", label " + in_quotes(c.label);
    if (!c.uuid.empty()) line += ", UUID " + escaped(c.uuid);
    fmt::print("  {}\n", line);
}

void inspect(const ImageOptions& options, bool json, const std::string& plot) {
    if (!plot.empty()) require_plot(plot);
    qcow2::ChainOptions how = options.chain;
    how.in_use = true;
    qcow2::Chain chain(options.image, how);
    say_warnings(chain);
    std::vector<qcow2::Usage> usage;
    OwnerPlot picture(chain);
    {
        Progress progress("reading tables", chain.virtual_size());
        usage = qcow2::survey(
            chain, [&](std::uint64_t bytes) { progress.add(bytes); },
            [&](std::size_t layer, std::uint64_t begin, std::uint64_t end) { picture.add(layer, begin, end); });
    }
    if (!plot.empty()) write_file(plot, plot_svg(picture.script(), 1200, 700));
    qcow2::Reader reader(chain);
    std::vector<std::string> problems;
    std::vector<device::Content> content = device::find_content(reader, chain.virtual_size(), problems);

    const Reading reading(chain);
    const auto& layers = chain.layers();
    if (json) {
        Json j;
        j["image"] = chain.top().file().name();
        if (reading.device()) j["device"] = "/dev/mapper/" + *reading.device();
        j["bytes"] = chain.virtual_size();
        j["layer_count"] = layers.size();
        j["unit_bytes"] = chain.unit();
        j["layers"] = Json::array();
        for (std::size_t i = layers.size(); i-- > 0;) j["layers"].push_back(layer_json(*layers[i], usage[i], i, reading));
        j["content"] = Json::array();
        for (const device::Content& c : content) j["content"].push_back(content_json(c));
        j["problems"] = problems;
        j["warnings"] = chain.warnings();
        print_json(j);
        return;
    }
    fmt::print("{}\n", escaped(options.image));
    fmt::print("  disk {} ({} bytes), {}, top first (0 is the base):\n", human_size(chain.virtual_size()), chain.virtual_size(),
               counted(layers.size(), "layer"));
    if (reading.device()) fmt::print("  the device {} has it, and says how it reads each of them\n", escaped(*reading.device()));
    for (std::size_t i = layers.size(); i-- > 0;) print_layer(*layers[i], usage[i], i, reading);
    fmt::print("On the disk:\n");
    for (const device::Content& c : content) print_content(c);
    if (content.empty()) fmt::print("  nothing that libblkid knows\n");
    for (const std::string& p : problems) fmt::print("  not readable: {}\n", p);
}

}  // namespace

CLI::App* add_inspect(CLI::App& app, Exit&) {
    CLI::App* command = app.add_subcommand("inspect", "Show the layers of a chain and what is on its disk");
    auto options = std::make_shared<ImageOptions>();
    auto json = std::make_shared<bool>(false);
    auto plot = std::make_shared<std::string>();
    add_image_options(*command, *options);
    add_force_share(*command, *options);
    command->add_option("--plot", *plot, "Draw which layer each part of the disk comes from, as SVG (needs gnuplot)")
        ->type_name("FILE");
    command->add_flag("--json", *json, "Print JSON");
    command->callback([options, json, plot] { inspect(*options, *json, *plot); });
    return command;
}

}  // namespace dmchain::commands
