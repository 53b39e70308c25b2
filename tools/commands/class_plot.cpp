// SPDX-License-Identifier: GPL-2.0-or-later
// See class_plot.hpp.
#include "commands/class_plot.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "io/gnuplot.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

constexpr std::size_t columns = 400;

// In the order of the classes: what is not in use grey, clean cache green, critical all else.
constexpr std::array<const char*, guest::classes> colours = {"#e4e4e4", "#c8c8c8", "#9fd39f", "#4ca64c", "#e6a532",
                                                             "#b3742e", "#a173c9", "#d64545", "#4b8fd6", "#8ec7f0",
                                                             "#2c4f9e", "#6f6f6f", "#303030", "#f2df4e"};

using Pages = std::array<std::uint64_t, guest::classes>;

}  // namespace

std::string class_plot(const guest::Image& image, const guest::PageMap& map) {
    const std::uint64_t pages = image.bytes() / guest::page_bytes, per_column = (pages + columns - 1) / columns;
    std::vector<Pages> fields((pages + per_column - 1) / per_column);
    Pages sums{};
    std::uint64_t at = 0;
    for (const auto& block : map.blocks)
        for (const guest::Class c : block) {
            fields[at++ / per_column][static_cast<std::size_t>(c)]++;
            sums[static_cast<std::size_t>(c)]++;
        }
    const auto mib = [](std::uint64_t n) { return static_cast<double>(n * guest::page_bytes) / (1 << 20); };
    std::string data, plots;
    for (std::size_t c = 0; c < guest::classes; c++) {
        if (!sums[c]) continue;
        data += fmt::format("$c{} << EOD\n", c);
        for (std::size_t f = 0; f < fields.size(); f++) {
            if (!fields[f][c]) continue;
            const std::uint64_t begin = f * per_column, end = std::min(pages, begin + per_column);
            std::uint64_t below = 0;
            for (std::size_t lower = 0; lower < c; lower++) below += fields[f][lower];
            const auto share = [&](std::uint64_t n) { return 100 * static_cast<double>(n) / static_cast<double>(end - begin); };
            data += fmt::format("{0} {1} {0} {2} {1} {3}\n", mib(begin), share(below), mib(end), share(below + fields[f][c]));
        }
        data += "EOD\n";
        plots += fmt::format(
            "{}$c{} using 1:2:3:4:5:6 with boxxyerror lc rgb '{}' title {}", plots.empty() ? "" : ", ", c, colours[c],
            plot_text(fmt::format("{}, {}", name_of(static_cast<guest::Class>(c)), human_size(sums[c] * guest::page_bytes))));
    }
    const std::string guest = map.release.empty() ? "the guest is not understood" : "Linux " + map.release;
    return fmt::format(
        "{}set title {}\nset xlabel 'memory, MiB'\nset ylabel 'share, %'\nset xrange [0:{}]\nset yrange [0:100]\n"
        "set tics out nomirror\nset style fill solid noborder\nset key outside right top reverse Left invert\nplot {}\n",
        data, plot_text(fmt::format("{} ({})", image.source.name(), guest)), mib(pages), plots);
}

}  // namespace dmchain::commands
