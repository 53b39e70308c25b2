// SPDX-License-Identifier: GPL-2.0-or-later
// Tables for people and scripts, with the options that lvm2's commands have: -o, --sort, --noheadings, --units, --json.
#pragma once

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dmchain::commands {

// @Row: what a line is about. Every field is a key of the JSON, too.
template <typename Row>
struct Field {
    std::string name;
    std::string help;
    bool bytes;  // a size, for --units
    std::function<nlohmann::json(const Row&)> value;
};

// The options, and how cells are written.
class ReportOptions {
public:
    // @fields: "name  help" of each, for --help.
    void add(CLI::App& command, const std::string& fields, const std::string& standard);

    bool json = false;
    bool no_headings = false;
    std::string fields;  // names, with commas between them
    std::string sort;    // the same; "-" before one: the other way round

    // A cell as text.
    std::string text(const nlohmann::json& value, bool bytes) const;

private:
    std::string units_ = "h";
};

// The names of @list, with commas between them, as numbers of @names; throws Exit::usage for one that is not there. What begins with "-"
// is negative, counted from 1: for --sort.
std::vector<int> chosen(const std::string& list, const std::vector<std::string>& names);

// Prints @table, whose first row has the headings.
void print_table(const std::vector<std::vector<std::string>>& table, const std::vector<bool>& right, bool headings);
void print_report_json(const std::string& key, const nlohmann::ordered_json& rows);

template <typename Row>
class Report {
public:
    Report(std::string key, std::vector<Field<Row>> fields, std::string standard)
        : key_(std::move(key)), fields_(std::move(fields)), standard_(std::move(standard)) {}

    void add_options(CLI::App& command) {
        std::string all;
        for (const auto& f : fields_)
            all += "\n    " + f.name + std::string(f.name.size() < 21 ? 21 - f.name.size() : 1, ' ') + f.help;
        options_.add(command, all, standard_);
    }

    // Whether fields were chosen, or JSON.
    bool is_table() const { return options_.json || !options_.fields.empty(); }

    const ReportOptions& options() const { return options_; }

    void print(const std::vector<Row>& rows) const { print(rows, options_); }
    // @options: those of another report, which the same command prints of something else.
    void print(const std::vector<Row>& rows, const ReportOptions& options) const {
        std::vector<std::string> names;
        for (const auto& f : fields_) names.push_back(f.name);
        const std::vector<int> columns = chosen(wanted(names, options), names);
        std::vector<std::vector<nlohmann::json>> values;
        for (const Row& r : rows) {
            values.emplace_back();
            for (const auto& f : fields_) values.back().push_back(f.value(r));
        }
        const std::vector<int> keys = chosen(options.sort, names);
        std::stable_sort(values.begin(), values.end(), [&](const auto& a, const auto& b) {
            for (const int k : keys) {
                const auto i = static_cast<std::size_t>(k < 0 ? -k : k) - 1;
                if (a[i] != b[i]) return k < 0 ? b[i] < a[i] : a[i] < b[i];
            }
            return false;
        });
        if (options.json)
            as_json(columns, values);
        else
            as_text(columns, values, options);
    }

private:
    std::string wanted(const std::vector<std::string>& names, const ReportOptions& options) const {
        std::string all;
        for (const auto& n : names) all += (all.empty() ? "" : ",") + n;
        if (options.fields == "all") return all;
        if (options.fields.starts_with('+')) return standard_ + "," + options.fields.substr(1);
        if (!options.fields.empty()) return options.fields;
        return options.json ? all : standard_;
    }

    void as_json(const std::vector<int>& columns, const std::vector<std::vector<nlohmann::json>>& values) const {
        nlohmann::ordered_json rows = nlohmann::ordered_json::array();
        for (const auto& v : values) {
            nlohmann::ordered_json row;
            for (const int c : columns) row[fields_[static_cast<std::size_t>(c) - 1].name] = v[static_cast<std::size_t>(c) - 1];
            rows.push_back(row);
        }
        print_report_json(key_, rows);
    }

    void as_text(const std::vector<int>& columns, const std::vector<std::vector<nlohmann::json>>& values,
                 const ReportOptions& options) const {
        std::vector<std::vector<std::string>> table(1);
        std::vector<bool> right;
        for (const int c : columns) {
            std::string heading = fields_[static_cast<std::size_t>(c) - 1].name;
            for (char& h : heading) h = h == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(h)));
            table[0].push_back(heading);
            right.push_back(false);
        }
        for (const auto& v : values) {
            table.emplace_back();
            for (std::size_t i = 0; i < columns.size(); i++) {
                const auto c = static_cast<std::size_t>(columns[i]) - 1;
                right[i] = right[i] || v[c].is_number();
                table.back().push_back(options.text(v[c], fields_[c].bytes));
            }
        }
        print_table(table, right, !options.no_headings);
    }

    const std::string key_;  // of the list in the JSON
    const std::vector<Field<Row>> fields_;
    const std::string standard_;  // fields that are shown when none are chosen
    ReportOptions options_;
};

}  // namespace dmchain::commands
