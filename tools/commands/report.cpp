// SPDX-License-Identifier: GPL-2.0-or-later
// See report.hpp.
#include "commands/report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "commands/print_json.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

void ReportOptions::add(CLI::App& command, const std::string& all, const std::string& standard) {
    command
        .add_option("-o,--options", fields,
                    "Fields to show, with commas between them (" +
                        (standard.empty() ? "" : "+FIELD: besides " + standard + "; ") + "all: all of these):" + all)
        ->type_name("FIELD[,FIELD...]");
    command.add_option("-O,--sort", sort, "Fields to sort by; -FIELD: in the other direction")->type_name("[-]FIELD[,...]");
    command.add_flag("--noheadings", no_headings, "Do not print the line with the names of the fields");
    command.add_option("--units", units_, "Print sizes in bytes (b), KiB (k), MiB (m), GiB (g), TiB (t), or as fits (h)")
        ->check(CLI::IsMember({"b", "k", "m", "g", "t", "h"}))
        ->type_name("UNIT");
    command.add_flag("--json", json, "Print JSON, sizes in bytes");
}

std::string ReportOptions::text(const nlohmann::json& value, bool bytes) const {
    if (value.is_null()) return "-";
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    if (value.is_string()) return escaped(value.get<std::string>());
    if (!bytes || !value.is_number_unsigned()) return value.dump();
    const auto n = value.get<std::uint64_t>();
    if (units_ == "h") return human_size(n);
    if (units_ == "b") return std::to_string(n);
    const auto power = std::string("kmgt").find(units_) + 1;
    return fmt::format("{:.2f}", static_cast<double>(n) / static_cast<double>(std::uint64_t{1} << (10 * power)));
}

std::vector<int> chosen(const std::string& list, const std::vector<std::string>& names) {
    std::vector<int> out;
    for (std::size_t at = 0; at < list.size();) {
        const std::size_t comma = std::min(list.find(',', at), list.size());
        std::string name = list.substr(at, comma - at);
        const bool down = name.starts_with('-');
        if (down || name.starts_with('+')) name.erase(0, 1);
        const auto found = std::find(names.begin(), names.end(), name);
        if (found == names.end()) {
            std::string all;
            for (const auto& n : names) all += (all.empty() ? "" : ", ") + n;
            throw Error(Exit::usage, fmt::format("{}: there is no such field; there are: {}", in_quotes(name), all));
        }
        const int number = static_cast<int>(found - names.begin()) + 1;
        out.push_back(down ? -number : number);
        at = comma + 1;
    }
    return out;
}

void print_table(const std::vector<std::vector<std::string>>& table, const std::vector<bool>& right, bool headings) {
    std::vector<std::size_t> width(right.size());
    for (std::size_t r = headings ? 0 : 1; r < table.size(); r++)
        for (std::size_t c = 0; c < right.size(); c++) width[c] = std::max(width[c], table[r][c].size());
    // Nothing at all where there is nothing to tell.
    for (std::size_t r = headings && table.size() > 1 ? 0 : 1; r < table.size(); r++) {
        std::string line;
        for (std::size_t c = 0; c < right.size(); c++) {
            const std::string pad(width[c] - table[r][c].size(), ' ');
            line += (c ? "  " : "") + (right[c] ? pad + table[r][c] : table[r][c] + pad);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        fmt::print("{}\n", line);
    }
}

void print_report_json(const std::string& key, const nlohmann::ordered_json& rows) {
    print_json(nlohmann::ordered_json{{key, rows}});
}

}  // namespace dmchain::commands
