// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain survey: what a fleet of images is like. Reads only.
#include <ctime>
#include <memory>

#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "commands/survey_report.hpp"
#include "commands/write_file.hpp"
#include "io/gnuplot.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    chain::FleetOptions fleet;
    std::string csv;
    std::string plot;
    bool json = false;
};

void run(const Options& o) {
    if (!o.csv.empty()) require_place(o.csv);
    if (!o.plot.empty()) require_plot(o.plot);
    Survey s;
    s.fleet = chain::scan_fleet(o.fleet);
    s.usage = chain::measure_fleet(s.fleet);
    s.sum = chain::sum_up(s.fleet, s.usage, std::time(nullptr));
    if (!o.csv.empty()) write_file(o.csv, survey_csv(s));
    if (!o.plot.empty()) write_file(o.plot, plot_svg(survey_plot(s), 1200, 900));
    if (o.json)
        print_survey_json(s);
    else
        print_survey(s);
}

}  // namespace

CLI::App* add_survey(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("survey", "Show what the images in folders are like: chains, sizes, sharing, waste, damage");
    c->add_option("DIR", o->fleet.folders, "The folders, with all that is below them")->required();
    add_allow_options(*c, o->fleet.allow, o->fleet.assume_raw, "the folders'");
    c->add_option("--csv", o->csv, "Write a line for each chain to this file")->type_name("FILE");
    c->add_option("--plot", o->plot, "Draw it, as SVG (needs gnuplot)")->type_name("FILE");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
