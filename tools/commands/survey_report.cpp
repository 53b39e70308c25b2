// SPDX-License-Identifier: GPL-2.0-or-later
// See survey_report.hpp.
#include "commands/survey_report.hpp"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "commands/print_json.hpp"
#include "io/gnuplot.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 5> age_names = {"less than a day", "less than a week", "less than 30 days", "less than a year",
                                                  "a year or more"};
constexpr std::array<unsigned, 4> percentiles = {50, 90, 99, 100};

const chain::FleetFile& top_of(const Survey& s, std::size_t number) {
    return s.fleet.files[s.fleet.layers[s.fleet.chains[number].top].file];
}

double share(std::uint64_t part, std::uint64_t all) {
    return all ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}

std::string bar(std::uint64_t part, std::uint64_t most) {
    constexpr std::uint64_t width = 40;
    return {std::string(most ? (part * width + most - 1) / most : 0, '#')};
}

// By class of length less 1.
std::array<std::uint64_t, chain::depth_classes> length_classes(const Survey& s) {
    std::array<std::uint64_t, chain::depth_classes> out{};
    for (const std::uint64_t n : s.sum.lengths) out[std::min(chain::depth_classes - 1, chain::depth_class(n - 1))]++;
    return out;
}

std::string length_class_name(std::size_t number) {
    if (number < 2) return std::to_string(number + 1);
    const std::uint64_t first = (std::uint64_t{1} << (number - 1)) + 1;
    if (number + 1 == chain::depth_classes) return fmt::format("{} and more", first);
    return fmt::format("{} to {}", first, 2 * first - 2);
}

// The classes that have something, with those between.
template <typename Name, typename Value>
void print_classes(const std::array<std::uint64_t, chain::depth_classes>& classes, const Name& name, const Value& value) {
    const std::uint64_t most = *std::max_element(classes.begin(), classes.end());
    std::size_t end = classes.size();
    while (end && !classes[end - 1]) end--;
    for (std::size_t i = 0; i < end; i++) {
        const std::string line = fmt::format("  {:>16}  {:>10}  {}", name(i), value(classes[i]), bar(classes[i], most));
        fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
    }
}

std::string percentile_line(const std::vector<std::uint64_t>& sorted, std::string (*text)(std::uint64_t)) {
    return fmt::format("median {}, 90 % at most {}, 99 % at most {}, the largest {}", text(chain::percentile(sorted, 50)),
                       text(chain::percentile(sorted, 90)), text(chain::percentile(sorted, 99)),
                       text(chain::percentile(sorted, 100)));
}

std::string plain(std::uint64_t n) { return std::to_string(n); }

void print_chains(const Survey& s) {
    fmt::print("\nLayers of a chain: {}\n", percentile_line(s.sum.lengths, plain));
    print_classes(length_classes(s), length_class_name, plain);
    fmt::print("\nSizes\n  disks: {} in all; {}\n", human_size(s.sum.virtual_bytes),
               percentile_line(s.sum.virtual_sizes, human_size));
    fmt::print("  files: {}, on disk {}\n", human_size(s.sum.file_bytes), human_size(s.sum.disk_bytes));
    if (s.sum.shared_layers)
        fmt::print("  shared: {} of {} in files, up to {} chains on one; copies would take {} more\n",
                   counted(s.sum.shared_layers, "layer"), human_size(s.sum.shared_bytes), s.sum.most_chains,
                   human_size(s.sum.not_copied_bytes));
    else
        fmt::print("  shared: no layer\n");
    fmt::print("\nHow far below the top the {} of data lie that the disks show\n", human_size(s.sum.live_bytes));
    print_classes(s.sum.live_by_depth, chain::class_name,
                  [&](std::uint64_t n) { return fmt::format("{:.1f} %", share(n, s.sum.live_bytes)); });
    fmt::print("\nWasted: {} of the {} that the layers store are seen by no disk ({:.1f} %)\n", human_size(s.sum.wasted_bytes),
               human_size(s.sum.stored_bytes), share(s.sum.wasted_bytes, s.sum.stored_bytes));
    fmt::print("  of these, {} lie in layers that one chain alone has: merging them gives that back\n",
               human_size(s.sum.freed_bytes));
}

void print_age(const Survey& s) {
    fmt::print("\nModified: the first {}, the last {}\n", time_text(s.sum.oldest), time_text(s.sum.newest));
    for (std::size_t i = 0; i < age_names.size(); i++)
        if (s.sum.images_by_age[i]) fmt::print("  {:>18} ago: {}\n", age_names[i], counted(s.sum.images_by_age[i], "file"));
}

Json usage_json(const chain::ChainUsage& u) {
    Json depth = Json::array();
    for (std::size_t c = 0; c < chain::depth_classes; c++)
        if (u.live_by_depth[c])
            depth.push_back({{"depth", c ? std::uint64_t{1} << (c - 1) : 0}, {"live_bytes", u.live_by_depth[c]}});
    return {{"bytes", u.virtual_bytes},         {"file_bytes", u.file_bytes},          {"own_file_bytes", u.own_file_bytes},
            {"shared_layers", u.shared_layers}, {"live_bytes", u.live_bytes},          {"freed_bytes", u.freed_bytes},
            {"modified", time_text(u.newest)},  {"oldest_layer", time_text(u.oldest)}, {"live_by_depth", std::move(depth)}};
}

// A field as RFC 4180 has it.
std::string cell(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + '"';
}

}  // namespace

std::string time_text(std::int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts{};
    if (!::gmtime_r(&time, &parts)) return "?";
    std::array<char, 64> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void print_survey(const Survey& s) {
    std::string where;
    for (const std::string& f : s.fleet.folders) where += (where.empty() ? "" : ", ") + escaped(f);
    fmt::print("{}\n  {}: {} qcow2, {} raw, {}; {}, {}\n", where, counted(s.sum.qcow2 + s.sum.raw, "image"), s.sum.qcow2,
               s.sum.raw, counted(s.sum.data_files, "data file"), counted(s.sum.chain_files, "chain file"),
               counted(s.sum.others, "other file"));
    fmt::print("  {}{}\n", counted(s.sum.chains, "chain"), s.sum.broken ? fmt::format(", {} cannot be read", s.sum.broken) : "");
    if (s.sum.written)
        fmt::print("  {} open for writing in another program: what is said of them may be out of date\n",
                   s.sum.written == 1 ? "1 image is" : fmt::format("{} images are", s.sum.written));
    if (!s.sum.lengths.empty()) print_chains(s);
    if (s.sum.qcow2 + s.sum.raw) print_age(s);
    if (!s.fleet.damage.empty()) fmt::print("\nNot read ({}):\n", s.fleet.damage.size());
    for (const std::string& line : s.fleet.damage) fmt::print("  {}\n", line);
    if (!s.sum.orphans.empty()) fmt::print("\nBelong to nothing ({}):\n", s.sum.orphans.size());
    for (const chain::Orphan& o : s.sum.orphans) fmt::print("  {}: {}\n", escaped(o.path), o.what);
}

void print_survey_json(const Survey& s) {
    Json j;
    j["folders"] = s.fleet.folders;
    j["qcow2_images"] = s.sum.qcow2;
    j["raw_images"] = s.sum.raw;
    j["data_files"] = s.sum.data_files;
    j["chain_files"] = s.sum.chain_files;
    j["other_files"] = s.sum.others;
    j["images_being_written"] = s.sum.written;
    j["chain_count"] = s.sum.chains;
    j["broken_chains"] = s.sum.broken;
    Json percent = Json::array();
    if (!s.sum.lengths.empty())
        for (const unsigned p : percentiles)
            percent.push_back({{"percent", p},
                               {"layer_count", chain::percentile(s.sum.lengths, p)},
                               {"bytes", chain::percentile(s.sum.virtual_sizes, p)}});
    j["percentiles"] = std::move(percent);
    j["bytes"] = s.sum.virtual_bytes;
    j["file_bytes"] = s.sum.file_bytes;
    j["disk_bytes"] = s.sum.disk_bytes;
    j["shared_layers"] = s.sum.shared_layers;
    j["shared_bytes"] = s.sum.shared_bytes;
    j["not_copied_bytes"] = s.sum.not_copied_bytes;
    j["most_chains"] = s.sum.most_chains;
    j["live_bytes"] = s.sum.live_bytes;
    j["stored_bytes"] = s.sum.stored_bytes;
    j["wasted_bytes"] = s.sum.wasted_bytes;
    j["freed_bytes"] = s.sum.freed_bytes;
    j["chains"] = Json::array();
    for (std::size_t i = 0; i < s.fleet.chains.size(); i++) {
        const chain::FleetChain& c = s.fleet.chains[i];
        Json chain{{"image", top_of(s, i).path}, {"layer_count", c.layers}};
        if (s.usage.chains[i].read)
            chain.update(usage_json(s.usage.chains[i]));
        else
            chain["broken"] = c.broken;
        j["chains"].push_back(std::move(chain));
    }
    j["wasteful_layers"] = Json::array();
    for (std::size_t i = 0; i < s.usage.layers.size(); i++) {
        const chain::LayerUsage& u = s.usage.layers[i];
        if (!u.wasted_bytes) continue;
        j["wasteful_layers"].push_back({{"path", s.fleet.files[s.fleet.layers[i].file].path},
                                        {"chain_count", u.chains},
                                        {"stored_bytes", u.stored_bytes},
                                        {"wasted_bytes", u.wasted_bytes}});
    }
    j["damage"] = s.fleet.damage;
    j["orphans"] = Json::array();
    for (const chain::Orphan& o : s.sum.orphans) j["orphans"].push_back({{"path", o.path}, {"reason", o.what}});
    print_json(j);
}

std::string survey_csv(const Survey& s) {
    std::string out =
        "image,layer_count,bytes,file_bytes,own_file_bytes,shared_layers,live_bytes,freed_bytes,modified,oldest_layer,broken\n";
    for (std::size_t i = 0; i < s.fleet.chains.size(); i++) {
        const chain::ChainUsage& u = s.usage.chains[i];
        const chain::FleetChain& c = s.fleet.chains[i];
        out += cell(escaped(top_of(s, i).path));
        if (u.read)
            out += fmt::format(",{},{},{},{},{},{},{},{},{},\n", c.layers, u.virtual_bytes, u.file_bytes, u.own_file_bytes,
                               u.shared_layers, u.live_bytes, u.freed_bytes, time_text(u.newest), time_text(u.oldest));
        else
            out += fmt::format(",{},,,,,,,,,{}\n", c.layers, cell(c.broken));
    }
    return out;
}

std::string survey_plot(const Survey& s) {
    const auto gib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / (1u << 30); };
    std::string lengths, depths, sizes, freed;
    const auto by_length = length_classes(s);
    std::size_t end = 1;
    for (std::size_t i = 0; i < chain::depth_classes; i++)
        if (by_length[i] || s.sum.live_by_depth[i]) end = i + 1;
    for (std::size_t i = 0; i < end; i++) {
        lengths += fmt::format("\"{}\" {}\n", length_class_name(i), by_length[i]);
        depths += fmt::format("\"{}\" {:.3f}\n", chain::class_name(i), share(s.sum.live_by_depth[i], s.sum.live_bytes));
    }
    std::vector<std::uint64_t> files, given_back;
    for (const chain::ChainUsage& u : s.usage.chains)
        if (u.read) {
            files.push_back(u.file_bytes);
            given_back.push_back(u.freed_bytes);
        }
    std::sort(files.begin(), files.end());
    std::sort(given_back.rbegin(), given_back.rend());
    // A hundred points of each curve, however many chains there are.
    const std::size_t step = std::max<std::size_t>(1, files.size() / 100);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < files.size(); i++) {
        sum += given_back[i];
        if ((i + 1) % step && i + 1 != files.size()) continue;
        sizes += fmt::format("{:.2f} {:.6f} {:.6f}\n", share(i + 1, files.size()), gib(s.sum.virtual_sizes[i]), gib(files[i]));
        freed += fmt::format("{} {:.6f}\n", i + 1, gib(sum));
    }
    return fmt::format(
        "$lengths << EOD\n{}EOD\n$depths << EOD\n{}EOD\n$sizes << EOD\n{}EOD\n$freed << EOD\n{}EOD\n"
        "set multiplot layout 2,2 title {}\n"
        "set style fill solid 0.7 border\nset boxwidth 0.8\nset grid ytics\nset xtics rotate by -40\nset yrange [0:*]\nunset "
        "key\n"
        "set title 'Chains by length'\nset xlabel 'layers'\nset ylabel 'chains'\n"
        "plot $lengths using 0:2:xtic(1) with boxes lc rgb '#4477aa'\n"
        "set title 'Where the data lie that the disks show'\nset xlabel 'layers below the top'\nset ylabel '% of the live data'\n"
        "plot $depths using 0:2:xtic(1) with boxes lc rgb '#228833'\n"
        "set xtics norotate\nset key top left\n"
        "set title 'Sizes'\nset xlabel '% of the chains'\nset ylabel 'GiB, at most'\n"
        "plot $sizes using 1:2 with lines lw 2 lc rgb '#4477aa' title 'disk', "
        "$sizes using 1:3 with lines lw 2 lc rgb '#ee6677' title 'files'\n"
        "unset key\nset title 'What merging gives back'\nset xlabel 'chains, those that give most first'\nset ylabel 'GiB, "
        "together'\n"
        "plot $freed using 1:2 with lines lw 2 lc rgb '#aa3377'\n"
        "unset multiplot\n",
        lengths, depths, sizes, freed, plot_text(fmt::format("{} chains, {} images", s.sum.chains, s.sum.qcow2 + s.sum.raw)));
}

}  // namespace dmchain::commands
