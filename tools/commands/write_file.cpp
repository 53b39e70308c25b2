// SPDX-License-Identifier: GPL-2.0-or-later
// See write_file.hpp.
#include "commands/write_file.hpp"

#include <filesystem>

#include "chain/chain_file.hpp"
#include "chain/output.hpp"
#include "io/error.hpp"
#include "io/gnuplot.hpp"
#include "io/text.hpp"
#include "qcow2/header.hpp"

namespace dmchain::commands {

void require_place(const std::string& path) {
    std::error_code none;
    if (!std::filesystem::exists(path, none)) return;
    const File there(path);
    if (there.identity().block_device || qcow2::has_magic(there) || chain::is_chain_file(there))
        throw failed("{}: is {}, which is not overwritten: name another file", escaped(path),
                     there.identity().block_device ? "a block device"
                     : qcow2::has_magic(there)     ? "a qcow2 image"
                                                   : "a chain file");
}

void require_plot(const std::string& path) {
    require_place(path);
    plot_svg("plot 0\n", 100, 100);
}

void write_file(const std::string& path, std::string_view text) {
    chain::Output out(path);
    out.write(text.data(), text.size(), 0);
    out.commit(true);
}

}  // namespace dmchain::commands
