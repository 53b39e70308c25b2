// SPDX-License-Identifier: GPL-2.0-or-later
// See owner_plot.hpp.
#include "commands/owner_plot.hpp"

#include <algorithm>

#include "io/gnuplot.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

constexpr unsigned shades = 16;

std::size_t parts(std::size_t n, std::size_t of) { return std::max<std::size_t>(1, (n + of - 1) / of); }

// From a light blue to a dark one.
std::string colour(unsigned shade) {
    const auto between = [&](unsigned light, unsigned dark) { return light - (light - dark) * shade / (shades - 1); };
    return fmt::format("0x{:02x}{:02x}{:02x}", between(0x9e, 0x08), between(0xc5, 0x30), between(0xe8, 0x6b));
}

}  // namespace

OwnerPlot::OwnerPlot(const qcow2::Chain& chain)
    : layers_(chain.layers().size()),
      bytes_(chain.virtual_size()),
      per_column_(std::max<std::uint64_t>(1, bytes_ / columns + (bytes_ % columns != 0))),
      per_row_(parts(layers_, most_rows)),
      name_(chain.top().file().path()),
      fields_(parts(layers_, per_row_) * columns) {}

void OwnerPlot::add(std::size_t layer, std::uint64_t begin, std::uint64_t end) {
    std::uint64_t* row = &fields_[layer / per_row_ * columns];
    while (begin < end) {
        const std::uint64_t column = begin / per_column_;
        const std::uint64_t until = std::min(end, (column + 1) * per_column_);
        row[column] += until - begin;
        begin = until;
    }
}

std::string OwnerPlot::script() const {
    unsigned unit = 0;
    while (unit < 6 && bytes_ >> (10 * (unit + 1)) != 0) unit++;
    static constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    const double one = static_cast<double>(std::uint64_t{1} << (10 * unit));
    const auto at = [&](std::size_t column) {
        return static_cast<double>(std::min<std::uint64_t>(bytes_, column * per_column_)) / one;
    };
    std::string boxes;
    for (std::size_t row = 0; row * columns < fields_.size(); row++) {
        const std::uint64_t* f = &fields_[row * columns];
        const auto shade = [&](std::size_t c) {
            return f[c] ? static_cast<unsigned>(static_cast<double>(f[c]) / static_cast<double>(per_column_) * (shades - 1)) + 1
                        : 0;
        };
        for (std::size_t c = 0; c < columns;) {
            std::size_t end = c + 1;
            while (end < columns && shade(end) == shade(c)) end++;
            if (shade(c)) {
                const double low = static_cast<double>(row * per_row_) - 0.5;
                const double high = static_cast<double>(std::min(layers_, (row + 1) * per_row_)) - 0.5;
                boxes += fmt::format("{} {} {} {} {} {} {}\n", at(c), low, at(c), at(end), low, high, colour(shade(c) - 1));
            }
            c = end;
        }
    }
    // A line without width, so that there is something to draw on an empty disk.
    boxes += "0 0 0 0 0 0 0xffffff\n";
    return fmt::format(
        "$boxes << EOD\n{}EOD\nset title {}\nset xlabel 'disk, {}'\nset ylabel 'layer (0 is the base)'\nunset key\n"
        "set xrange [0:{}]\nset yrange [-0.5:{}]\nset tics out nomirror\nset ytics {}\nset style fill solid noborder\n"
        "plot $boxes using 1:2:3:4:5:6:7 with boxxyerror lc rgb variable\n",
        boxes, plot_text(name_), units[unit], std::max(at(columns), 1e-9), static_cast<double>(layers_) - 0.5,
        parts(layers_, 10));
}

}  // namespace dmchain::commands
