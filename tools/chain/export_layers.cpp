// SPDX-License-Identifier: GPL-2.0-or-later
// See export.hpp: a chain as it is, in a folder of its own.
#include <fmt/format.h>

#include <filesystem>
#include <set>
#include <vector>

#include "chain/export.hpp"
#include "chain/new_folder.hpp"
#include "io/copy_file.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/active.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/header.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

// Why a copy of the file alone would not be the layer, or "".
std::string why_not(const qcow2::Layer& l) {
    if (l.file().identity().block_device) return "is a block device";
    if (l.data_file()) return "has an external data file";
    if (!l.image() && (l.raw_begin() || l.virtual_size() < l.file().size())) return "is a part of a file";
    if (l.image() && l.image()->log()) return "is not sealed";
    return "";
}

// Whether the header of the image at @path names @below already.
bool says(const std::string& path, const std::string& below) { return qcow2::read_header(File(path)).backing_name == below; }

}  // namespace

std::uint64_t layer_bytes(const qcow2::Chain& chain) {
    std::uint64_t sum = 0;
    for (const auto& l : chain.layers()) sum += l->file().size();
    return sum;
}

void export_layers(const qcow2::Chain& chain, const std::string& path, const ExportHow& how) {
    std::vector<std::string> names;
    std::set<std::string> taken;
    for (const auto& l : chain.layers()) {
        const std::string& from = l->file().path();
        if (const std::string why = why_not(*l); !why.empty())
            throw failed("{}: {}: it cannot be copied as a file; use --format qcow2", escaped(from), why);
        if (!names.empty() && !says(from, names.back())) qcow2::check_backing_name(from, names.back());
        names.push_back(free_name(fs::path(l->file().name()).filename().string(), taken));
    }

    NewFolder folder(path);
    for (std::size_t i = 0; i < names.size(); i++) {
        const File& from = chain.layers()[i]->file();
        const std::string to = folder.making() + "/" + names[i];
        const std::function<void(std::uint64_t)> reach = how.so_far();
        copy_file(from.path(), to, 0, {}, reach);
        reach(from.size());
        if (!i || says(to, names[i - 1])) continue;
        Writable copy = Writable::open(to);
        qcow2::set_backing_name(copy, names[i - 1]);
    }
    folder.commit();
}

}  // namespace dmchain::chain
