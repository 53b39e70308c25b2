// SPDX-License-Identifier: GPL-2.0-or-later
// A picture of a chain: which layer each part of the disk comes from. It has a fixed number of fields, whatever the size of the
// disk and the number of layers; how dark one is says how much of it comes from there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::commands {

class OwnerPlot {
public:
    explicit OwnerPlot(const qcow2::Chain& chain);
    // [begin, end) of the disk, bytes, comes from the layer with this number from the base.
    void add(std::size_t layer, std::uint64_t begin, std::uint64_t end);
    // For gnuplot.
    std::string script() const;

private:
    static constexpr std::size_t columns = 400;
    static constexpr std::size_t most_rows = 250;

    std::size_t layers_;
    std::uint64_t bytes_;
    std::uint64_t per_column_;  // bytes of the disk
    std::size_t per_row_;       // layers
    std::string name_;
    std::vector<std::uint64_t> fields_;  // bytes; row by row
};

}  // namespace dmchain::commands
