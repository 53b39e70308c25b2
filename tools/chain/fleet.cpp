// SPDX-License-Identifier: GPL-2.0-or-later
// See fleet.hpp.
#include "chain/fleet.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "chain/fleet_files.hpp"
#include "chain/places.hpp"
#include "io/text.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/policy.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

std::string absolute(const std::string& folder, const std::string& name) {
    return name.starts_with('/') ? name : folder + "/" + name;
}

// Finds out what each image stands on, by the rules of qcow2::Chain, but each once and not once for each chain.
class Resolver {
public:
    Resolver(const FleetOptions& options, Fleet& fleet) : options_(options), fleet_(fleet), policy_(allowed(options, fleet)) {
        for (std::size_t i = 0; i < fleet.files.size(); i++) by_key_.emplace(key_of(fleet.files[i].identity), i);
    }

    void run() {
        for (std::size_t i = 0; i < fleet_.files.size(); i++) {
            const FleetFile& f = fleet_.files[i];
            if (f.header) own_.emplace(i, layer({i, qcow2::Format::qcow2, qcow2::folder_of(f.path)}));
        }
        // Others are added behind them.
        for (std::size_t i = 0; i < fleet_.layers.size(); i++) resolve(i);
        mark();
        measure();
        chain_files();
        tops();
        damage();
    }

private:
    static std::vector<std::string> allowed(const FleetOptions& options, const Fleet& fleet) {
        std::vector<std::string> all = options.allow;
        all.insert(all.end(), fleet.folders.begin(), fleet.folders.end());
        return all;
    }

    // Its number; that of the same one, if it is there already.
    std::size_t layer(FleetLayer l) {
        std::string windows;
        for (const qcow2::Window& w : l.windows) windows += fmt::format("{}+{} ", w.offset, w.size.value_or(0));
        const auto [at, is_new] =
            known_.try_emplace({l.file, l.format, l.folder, windows, l.data_file, l.alone}, fleet_.layers.size());
        if (is_new) fleet_.layers.push_back(std::move(l));
        return at->second;
    }

    std::size_t file(const Place& place) {
        const File opened(place);
        const auto at = by_key_.find(key_of(opened.identity()));
        if (at != by_key_.end()) return at->second;
        fleet_.files.push_back(examine(opened, false));
        by_key_.emplace(key_of(opened.identity()), fleet_.files.size() - 1);
        return fleet_.files.size() - 1;
    }

    void name_leftover(const std::string& path, const std::string& by) {
        if (FleetLeftover* l = fleet_.leftover(path)) l->named_by = by;
    }

    std::size_t named(const std::string& image, const char* what, const std::string& path) {
        try {
            const Place place(path);
            name_leftover(place.path(), image);
            if (policy_.allows(place)) return file(place);
            throw failed("{} {}", in_quotes(place.path()), policy_.refusal(place));
        } catch (const Error& e) {
            throw failed("{}: its {} cannot be used: {}", image, what, e.what());
        }
    }

    void resolve(std::size_t number) {
        try {
            const std::optional<FleetLayer> below = below_of(fleet_.layers[number], number);
            if (below) fleet_.layers[number].below = layer(*below);
        } catch (const Error& e) {
            fleet_.layers[number].broken = e.what();
        }
    }

    std::optional<FleetLayer> below_of(const FleetLayer& l, std::size_t number) {
        if (l.format == qcow2::Format::raw) return std::nullopt;
        const FleetFile& image = fleet_.files[l.file];
        if (!image.header) throw damaged("{}", image.damage);
        const std::shared_ptr<const qcow2::Header> header = image.header;
        const std::string name = escaped(image.path);
        const std::string folder = l.folder;
        if (header->has_data_file()) {
            std::string data = l.data_file;
            if (data.empty() && header->data_file_name)
                data = absolute(folder, qcow2::parse_data_file_name(name, *header->data_file_name));
            if (data.empty()) throw damaged("{}: has an external data file, but does not name it", name);
            const std::size_t f = named(name, "data file", data);
            fleet_.layers[number].data = f;
        } else if (!l.data_file.empty()) {
            throw failed("{}: has no external data file, expected one where the image above names {} for it", name,
                         in_quotes(l.data_file));
        }
        if (!header->backing_name || fleet_.layers[number].alone) return std::nullopt;
        const qcow2::NamedFile to = qcow2::parse_file_name(name, *header->backing_name, header->backing_format);
        const std::string path = absolute(folder, to.path);
        FleetLayer below{named(name, "backing file", path), qcow2::Format::qcow2, {}};
        below.alone = to.alone;
        const FleetFile& f = fleet_.files[below.file];
        const bool image_below = f.is == FleetFile::Is::image;
        if (!to.format && !image_below && !options_.assume_raw)
            throw failed(
                "{}: its backing file {} has no declared format and is not qcow2; if it is a raw disk, declare it "
                "with \"qemu-img rebase -u -F raw\" or use \"--assume-raw\"",
                name, in_quotes(f.path));
        below.format = to.format ? *to.format : image_below ? qcow2::Format::qcow2 : qcow2::Format::raw;
        if (below.format == qcow2::Format::raw) {
            below.windows = to.windows;
            return below;
        }
        if (!image_below)
            throw damaged("{}: its backing file {} is declared qcow2, but does not begin like a qcow2 image", name,
                          in_quotes(f.path));
        below.folder = fs::canonical(qcow2::folder_of(path)).string();
        if (to.data_file) below.data_file = absolute(folder, *to.data_file);
        return below;
    }

    // Which files are named, and by what.
    void mark() {
        for (const FleetLayer& l : fleet_.layers) {
            if (l.data) fleet_.files[*l.data].data = true;
            if (l.format == qcow2::Format::raw) raw_.insert(key_of(fleet_.files[l.file].identity));
        }
        for (std::size_t i = 0; i < fleet_.layers.size(); i++) {
            const FleetLayer& l = fleet_.layers[i];
            if (!l.below) continue;
            // What a guest wrote to its raw disk, or to a data file, is no image, whatever it looks like.
            const auto own = own_.find(l.file);
            const FleetFile& f = fleet_.files[l.file];
            if (own != own_.end() && own->second == i && (f.data || raw_.contains(key_of(f.identity)))) continue;
            fleet_.files[fleet_.layers[*l.below].file].backing = true;
        }
    }

    void chain_files() {
        for (std::size_t i = 0; i < fleet_.files.size(); i++) {
            if (fleet_.files[i].is != FleetFile::Is::chain_file || fleet_.files[i].data) continue;
            // A chain file in the making, or of a merge, lists nothing that counts.
            if (fleet_.leftover(fleet_.files[i].path)) continue;
            FleetChainFile out;
            out.file = i;
            try {
                const ChainFile chain{File(fleet_.files[i].path)};
                for (const chain_layer& l : chain.layers()) layer_of(chain, l, out);
                fleet_.chain_files.push_back(out);
            } catch (const Error& e) {
                fleet_.files[i].damage = e.what();
            }
        }
    }

    void layer_of(const ChainFile& chain, const chain_layer& l, FleetChainFile& out) {
        out.layers++;
        const std::string path = likely_path(chain, l);
        std::error_code none;
        if (fs::exists(path, none)) {
            const auto at = by_key_.find(key_of(identity_of(path)));
            if (at != by_key_.end()) fleet_.files[at->second].lister = out.file;
            name_leftover(fs::canonical(path, none).string(), escaped(fleet_.files[out.file].path));
            return;
        }
        if (!out.missing++) out.first_missing = path;
        out.beside = out.beside && qcow2::folder_of(path) == qcow2::folder_of(chain.file().path());
    }

    void tops() {
        for (const auto& [f, own] : own_) {
            const FleetFile& image = fleet_.files[f];
            if (image.backing || image.data || raw_.contains(key_of(image.identity))) continue;
            if (!image.lister && fleet_.leftover(image.path)) continue;
            FleetChain c{own, height_[own].layers, {}};
            if (height_[own].broken) c.broken = fleet_.layers[*height_[own].broken].broken;
            if (c.layers > qcow2::Chain::max_files)
                c.broken = fmt::format("{}: stands on {} layers, expected at most {} in a chain", escaped(image.path),
                                       c.layers - 1, qcow2::Chain::max_files);
            fleet_.chains.push_back(std::move(c));
        }
    }

    // How many layers each one makes with what is below it, and the lowest one, if that is broken. Loops are broken.
    void measure() {
        height_.resize(fleet_.layers.size());
        std::vector<std::size_t> path;
        for (std::size_t i = 0; i < fleet_.layers.size(); i++) {
            std::size_t at = i;
            path.clear();
            while (!height_[at].layers) {
                FleetLayer& l = fleet_.layers[at];
                path.push_back(at);
                height_[at] = {1, true, {}};
                if (!l.below) break;
                if (height_[*l.below].on_path) {
                    l.broken = fmt::format("{}: its backing file {} stands on it, expected a chain without loops",
                                           escaped(fleet_.files[l.file].path),
                                           in_quotes(fleet_.files[fleet_.layers[*l.below].file].path));
                    l.below.reset();
                    break;
                }
                at = *l.below;
            }
            while (!path.empty()) {
                const std::size_t n = path.back();
                const FleetLayer& l = fleet_.layers[n];
                path.pop_back();
                height_[n].on_path = false;
                if (!l.broken.empty()) height_[n].broken = n;
                if (!l.below) continue;
                height_[n].layers = height_[*l.below].layers + 1;
                height_[n].broken = height_[*l.below].broken;
            }
        }
    }

    void damage() {
        std::set<std::string> lines(fleet_.damage.begin(), fleet_.damage.end());
        // A copy of a move has the names that are right where the layer is.
        const auto is_image = [&](const FleetFile& f) {
            const FleetLeftover* l = fleet_.leftover(f.path);
            return !f.data && !raw_.contains(key_of(f.identity)) && !(l && l->kind == FleetLeftover::Kind::moving);
        };
        for (const FleetFile& f : fleet_.files)
            if (!f.damage.empty() && is_image(f)) lines.insert(f.damage);
        for (const FleetLayer& l : fleet_.layers)
            if (!l.broken.empty() && is_image(fleet_.files[l.file])) lines.insert(l.broken);
        fleet_.damage.assign(lines.begin(), lines.end());
    }

    struct Height {
        std::size_t layers = 0;               // 0: not known yet
        bool on_path = false;                 // of those that are being looked at
        std::optional<std::size_t> broken{};  // the layer that is
    };

    const FleetOptions& options_;
    Fleet& fleet_;
    qcow2::Policy policy_;
    std::map<FileKey, std::size_t> by_key_;
    std::map<std::size_t, std::size_t> own_;  // of an image that was found: it, opened by that name
    std::map<std::tuple<std::size_t, qcow2::Format, std::string, std::string, std::string, bool>, std::size_t> known_;
    std::set<FileKey> raw_;       // files that are raw layers
    std::vector<Height> height_;  // by layer
};

}  // namespace

const FleetFile* Fleet::find(const Identity& who) const {
    for (const FleetFile& f : files)
        if (f.identity.same_file(who)) return &f;
    return nullptr;
}

FleetLeftover* Fleet::leftover(const std::string& path) {
    const auto at = std::lower_bound(leftovers.begin(), leftovers.end(), path,
                                     [](const FleetLeftover& l, const std::string& p) { return l.path < p; });
    return at != leftovers.end() && at->path == path ? &*at : nullptr;
}

Fleet scan_fleet(const FleetOptions& options) {
    Fleet fleet;
    find_files(options, fleet);
    Resolver(options, fleet).run();
    return fleet;
}

}  // namespace dmchain::chain
