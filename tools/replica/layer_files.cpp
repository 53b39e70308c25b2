// SPDX-License-Identifier: GPL-2.0-or-later
// See layer_files.hpp.
#include "replica/layer_files.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "chain/layer_writer.hpp"
#include "chain/new_folder.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/restore.hpp"

namespace dmchain::replica {

namespace fs = std::filesystem;

namespace {

using guest::page_bytes;

qcow2::LogId id_of(const std::string& text) {
    qcow2::LogId id{};
    for (std::size_t i = 0; i < id.size(); i++)
        id[i] = static_cast<std::remove_reference_t<decltype(id[i])>>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
    return id;
}

// Of the file that the layer becomes.
std::string qcow2_name(std::string name) {
    // QEMU takes what stands before a colon for a protocol.
    std::replace(name.begin(), name.end(), ':', '_');
    return fs::path(name).extension() == ".qcow2" ? name : name + ".qcow2";
}

// Clusters of 64 KiB that the runs lie in, at the most.
std::uint64_t clusters_of(const Manifest& m) {
    constexpr std::uint64_t cluster_pages = 65536 / page_bytes;
    std::uint64_t n = 0, next = 0;
    for (const Run& r : m.runs) {
        const std::uint64_t first = std::max(next, r.page / cluster_pages);
        next = (r.page + r.pages + cluster_pages - 1) / cluster_pages;
        n += next - std::min(first, next);
    }
    return n;
}

class Restoring {
public:
    Restoring(const Store& places, const std::function<void(std::uint64_t)>& progress) : places_(places), progress_(progress) {}

    void layer(const Manifest& m, const std::string& path, const std::string& below) {
        chain::LayerWriter out({path, m.layer->bytes, below, m.layer->label, id_of(m.layer->id), clusters_of(m)});
        const chain::Readers none;
        PieceReader pieces(m, places_, none);
        // Pieces as they are needed, and the first run that needs each; in between runs of zeroes, and runs that the layer has not.
        std::vector<std::uint32_t> numbers;
        std::vector<std::size_t> first;
        for (std::size_t i = 0; i < m.runs.size(); i++)
            if (m.runs[i].kind == Run::Kind::piece && (numbers.empty() || m.runs[i].piece != numbers.back())) {
                numbers.push_back(m.runs[i].piece);
                first.push_back(i);
            }
        first.push_back(m.runs.size());
        const auto write = [&](std::size_t from, std::size_t to, const unsigned char* data) {
            for (; from < to; from++) {
                const Run& r = m.runs[from];
                const std::uint64_t start = r.page * page_bytes, end = std::min(start + r.pages * page_bytes, m.layer->bytes);
                if (r.kind == Run::Kind::zero) out.zero(start, end - start);
                if (r.kind != Run::Kind::piece) continue;
                out.data(start, data + r.at * page_bytes, end - start);
                progress_(r.pages * page_bytes);
            }
        };
        write(0, first[0], nullptr);
        pieces.each(numbers,
                    [&](std::size_t i, const std::vector<unsigned char>& data) { write(first[i], first[i + 1], data.data()); });
        out.finish();
        damaged_ += pieces.done().damaged_copies;
    }
    std::uint64_t damaged_copies() const { return damaged_; }

private:
    const Store& places_;
    const std::function<void(std::uint64_t)>& progress_;
    std::uint64_t damaged_ = 0;
};

}  // namespace

std::uint64_t FoundLayers::data_bytes() const {
    std::uint64_t sum = 0;
    for (const Manifest& m : layers)
        for (const Run& r : m.runs)
            if (r.kind == Run::Kind::piece) sum += r.pages * page_bytes;
    return sum;
}

FoundLayers find_layers(const Manifest& snapshot, const Store& places) {
    FoundLayers out;
    std::string below;
    for (const std::string& name : snapshot.layers) {
        Source s = find_manifest(places, name, Place::Kind::layer);
        if (s.manifest.layer->below != below)
            throw damaged("{}: its layer {} stands on {}, expected {}", in_quotes(snapshot.name), name,
                          s.manifest.layer->below.empty() ? "nothing" : s.manifest.layer->below,
                          below.empty() ? "nothing" : below);
        below = s.manifest.layer->id;
        if (const auto missing = missing_pieces(s.manifest, places, false).pieces; !missing.empty())
            throw damaged("{}: {} of the layer {} ({}) {} no copy left in these folders: name all folders that are left",
                          in_quotes(snapshot.name), counted(missing.size(), "piece"), name, in_quotes(s.manifest.layer->file),
                          missing.size() == 1 ? "has" : "have");
        out.problems.insert(out.problems.end(), s.problems.begin(), s.problems.end());
        out.layers.push_back(std::move(s.manifest));
    }
    return out;
}

LayerFiles restore_layers(const FoundLayers& found, const Store& places, const std::string& path,
                          const std::function<void(std::uint64_t)>& progress) {
    chain::NewFolder folder(path);
    Restoring restoring(places, progress);
    std::string below;
    std::set<std::string> taken;
    for (const Manifest& m : found.layers) {
        const std::string name = chain::free_name(qcow2_name(m.layer->file), taken);
        restoring.layer(m, folder.making() + "/" + name, below);
        below = name;
    }
    folder.commit();
    return {path + "/" + below, restoring.damaged_copies()};
}

}  // namespace dmchain::replica
