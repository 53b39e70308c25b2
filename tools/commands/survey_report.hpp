// SPDX-License-Identifier: GPL-2.0-or-later
// How survey tells what it found: a page of text, JSON, a table of chains, plots.
#pragma once

#include <string>

#include "chain/fleet_summary.hpp"

namespace dmchain::commands {

struct Survey {
    chain::Fleet fleet;
    chain::FleetUsage usage;
    chain::FleetSummary sum;
};

void print_survey(const Survey& s);
void print_survey_json(const Survey& s);
// One line for each chain, after one with the names of the columns.
std::string survey_csv(const Survey& s);
// A script for gnuplot.
std::string survey_plot(const Survey& s);

// "2026-11-22T08:00:00Z"
std::string time_text(std::int64_t seconds);

}  // namespace dmchain::commands
