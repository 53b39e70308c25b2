// SPDX-License-Identifier: GPL-2.0-or-later
// See fleet_usage.hpp. Layers that stand on each other are a tree: it is gone through from its base, child by child, with
// an OwnerMap of the layers on the way. A disk that is too fragmented for the memory is done in parts.
#include "chain/fleet_usage.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "chain/fleet_files.hpp"
#include "chain/owner_map.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t least_part = 64 << 10;           // bytes of the disk
constexpr std::uint64_t whole = std::uint64_t{1} << 62;  // larger than most disks
constexpr std::size_t none = ~std::size_t{0};

// More pieces than are allowed.
struct TooMany {};

// All layers of a tree. Numbers are those of Fleet::layers.
struct Tree {
    std::size_t base;
    std::size_t layers = 0;
};

File open_known(const FleetFile& f) {
    File file(f.path);
    if (!file.identity().same_file(f.identity)) throw failed("{}: became another file while it was looked at", escaped(f.path));
    return file;
}

qcow2::Layer open_layer(const Fleet& fleet, const FleetLayer& l, qcow2::Faults& faults) {
    File file = open_known(fleet.files[l.file]);
    if (l.format == qcow2::Format::raw) {
        const qcow2::Window part = qcow2::part_of(file, l.windows, file.path());
        return {std::move(file), part.offset, *part.size};
    }
    qcow2::Header header = qcow2::read_header(file, true);
    std::optional<File> data;
    if (l.data) data.emplace(open_known(fleet.files[*l.data]));
    return qcow2::Layer(
        std::make_unique<qcow2::Image>(std::move(file), std::move(header), std::move(data), std::nullopt, faults));
}

class Surveyor {
public:
    Surveyor(Fleet& fleet, const FleetUsageOptions& options) : fleet_(fleet), options_(options) {
        usage_.layers.resize(fleet.layers.size());
        usage_.chains.resize(fleet.chains.size());
        children_.resize(fleet.layers.size());
        chain_.resize(fleet.layers.size(), none);
    }

    FleetUsage run() {
        plant();
        Progress progress("reading tables", layers_);
        progress_ = &progress;
        share_out(trees_.size(), options_.threads, [&](Turns& turns, bool) {
            while (const auto i = turns.next()) survey(trees_[*i]);
        });
        add_chains();
        std::set<std::string> lines(fleet_.damage.begin(), fleet_.damage.end());
        for (const FleetLayer& l : fleet_.layers)
            if (!l.broken.empty()) lines.insert(l.broken);
        fleet_.damage.assign(lines.begin(), lines.end());
        return std::move(usage_);
    }

private:
    // The trees that have a chain, the largest first.
    void plant() {
        std::vector<std::size_t> tree_of(fleet_.layers.size(), none);
        for (std::size_t i = 0; i < fleet_.chains.size(); i++) {
            if (!fleet_.chains[i].broken.empty()) continue;
            chain_[fleet_.chains[i].top] = i;
            std::vector<std::size_t> path;
            std::size_t at = fleet_.chains[i].top;
            while (tree_of[at] == none) {
                path.push_back(at);
                if (!fleet_.layers[at].below) break;
                children_[*fleet_.layers[at].below].push_back(at);
                at = *fleet_.layers[at].below;
            }
            if (tree_of[at] == none) {
                tree_of[at] = trees_.size();
                trees_.push_back({at});
            }
            const std::size_t tree = tree_of[at];
            for (const std::size_t l : path) {
                tree_of[l] = tree;
                trees_[tree].layers++;
                layers_++;
            }
        }
        std::sort(trees_.begin(), trees_.end(), [](const Tree& a, const Tree& b) { return a.layers > b.layers; });
    }

    // What a part of the disk adds.
    struct Stored {
        OwnerMap::Bytes bytes{};       // of the disk
        std::uint64_t compressed = 0;  // as they lie in the file
        OwnerMap::Bytes unseen{};
        std::uint64_t virtual_bytes = 0;
    };
    struct Step {
        std::size_t layer;
        std::size_t next = 0;  // child
        bool laid = false;
    };

    // One way through a tree, for a part of the disk.
    class Pass {
    public:
        Pass(Surveyor& s, std::uint64_t begin, std::uint64_t end) : s_(s), begin_(begin), end_(end) {}

        void run(std::size_t base) {
            std::vector<Step> path = {{base}};
            path.back().laid = enter(base);
            while (!path.empty()) {
                Step& at = path.back();
                const auto& children = s_.children_[at.layer];
                if (at.laid && at.next < children.size()) {
                    const std::size_t child = children[at.next++];
                    path.push_back({child});
                    path.back().laid = enter(child);
                    continue;
                }
                if (at.laid) stored_[at.layer].unseen = map_.pop();
                path.pop_back();
            }
        }
        // All went well.
        void add_up() {
            for (auto& [layer, s] : stored_) s_.total_add(layer, s);
            for (auto& [chain, by_depth] : live_)
                for (std::size_t c = 0; c < depth_classes; c++) s_.usage_.chains[chain].live_by_depth[c] += by_depth[c];
        }
        std::uint64_t disk_end() const { return disk_end_; }

    private:
        // Lays the layer on what is there. Returns false if it cannot be read: then what is above is not looked at.
        bool enter(std::size_t number) {
            FleetLayer& l = s_.fleet_.layers[number];
            if (!l.broken.empty()) {
                map_.seen();  // who knows
                return false;
            }
            qcow2::Faults faults(qcow2::Faults::Mode::collect);
            map_.push();
            Stored now;
            try {
                lay(l, now, faults);
                if (faults.count()) throw damaged("{}", faults.lines().front().text());
            } catch (const Error& e) {
                l.broken = e.what();
                if (s_.fleet_.files[l.file].written) l.broken += " (another program is writing to it: look again later)";
                map_.pop();
                map_.seen();
                return false;
            }
            disk_end_ = std::max(disk_end_, now.virtual_bytes);
            stored_[number] = now;
            if (const std::size_t chain = s_.chain_[number]; chain != none) top(chain);
            return true;
        }

        void lay(const FleetLayer& l, Stored& now, qcow2::Faults& faults) {
            const qcow2::Layer layer = open_layer(s_.fleet_, l, faults);
            now.virtual_bytes = layer.virtual_size();
            map_.end_at(std::max(begin_, now.virtual_bytes), end_);
            qcow2::Scratch scratch(qcow2::Faults::Mode::collect);
            layer.map(begin_, end_, scratch, [&](const qcow2::Extent& e) {
                map_.add(e.guest, e.guest + e.bytes, e.kind);
                if (e.kind == qcow2::Kind::data) now.bytes.plain += e.bytes;
                if (e.kind == qcow2::Kind::compressed) {
                    now.bytes.compressed += e.bytes;
                    now.compressed += e.host_bytes;
                }
                if (map_.size() > s_.options_.pieces_at_once && end_ - begin_ > least_part) throw TooMany();
            });
            faults.take(std::move(scratch.faults));
        }

        void top(std::size_t chain) {
            map_.seen();
            auto& by_depth = live_[chain];
            for (std::size_t h = 0; h < map_.height(); h++)
                by_depth[std::min(depth_classes - 1, depth_class(map_.height() - 1 - h))] +=
                    map_.live(h).plain + map_.live(h).compressed;
        }

        Surveyor& s_;
        const std::uint64_t begin_, end_;
        OwnerMap map_;
        std::uint64_t disk_end_ = 0;
        std::map<std::size_t, Stored> stored_;
        std::map<std::size_t, std::array<std::uint64_t, depth_classes>> live_;
    };

    void survey(const Tree& tree) {
        std::uint64_t at = 0, part = whole;
        std::uint64_t end = std::uint64_t{1} << 63;  // of the largest disk of the tree; not known yet
        while (at < end) {
            const std::uint64_t until = at + std::min(part, end - at);
            try {
                Pass pass(*this, at, until);
                pass.run(tree.base);
                pass.add_up();
                end = std::min(end, pass.disk_end());
                at = until;
                // Elsewhere it may be less fragmented.
                part = std::min(whole, part * 2);
            } catch (const TooMany&) {
                part = smaller(tree, part);
            }
        }
        progress_->add(tree.layers);
    }

    // Half of it; the disk's size is what there is of it at first.
    std::uint64_t smaller(const Tree& tree, std::uint64_t part) const {
        std::uint64_t disk = least_part;
        std::vector<std::size_t> todo = {tree.base};
        while (!todo.empty()) {
            const std::size_t l = todo.back();
            todo.pop_back();
            const FleetFile& f = fleet_.files[fleet_.layers[l].file];
            disk =
                std::max(disk, f.header && fleet_.layers[l].format == qcow2::Format::qcow2 ? f.header->size : f.identity.bytes);
            todo.insert(todo.end(), children_[l].begin(), children_[l].end());
        }
        return std::max(least_part, std::min(part, disk) / 2 / least_part * least_part);
    }

    void total_add(std::size_t layer, const Stored& s) {
        LayerUsage& u = usage_.layers[layer];
        u.virtual_bytes = s.virtual_bytes;
        u.stored_bytes += s.bytes.plain + s.compressed;
        u.wasted_bytes += s.unseen.plain;
        if (s.bytes.compressed)
            u.wasted_bytes +=
                static_cast<std::uint64_t>(static_cast<double>(s.unseen.compressed) * static_cast<double>(s.compressed) /
                                           static_cast<double>(s.bytes.compressed));
    }

    // Calls @use for each layer of the chain, the top first.
    template <typename Use>
    void each_layer(const FleetChain& c, const Use& use) {
        for (std::optional<std::size_t> at = c.top; at; at = fleet_.layers[*at].below) use(*at);
    }

    void add_chains() {
        for (FleetChain& c : fleet_.chains) {
            if (!c.broken.empty()) continue;
            each_layer(c, [&](std::size_t l) {
                usage_.layers[l].chains++;
                if (!fleet_.layers[l].broken.empty()) c.broken = fleet_.layers[l].broken;
            });
        }
        for (std::size_t i = 0; i < fleet_.chains.size(); i++) {
            ChainUsage& u = usage_.chains[i];
            if (!fleet_.chains[i].broken.empty()) {
                u = {};
                continue;
            }
            u.read = true;
            u.virtual_bytes = usage_.layers[fleet_.chains[i].top].virtual_bytes;
            for (const std::uint64_t bytes : u.live_by_depth) u.live_bytes += bytes;
            each_layer(fleet_.chains[i], [&](std::size_t l) { add_layer(u, l); });
        }
    }

    void add_layer(ChainUsage& u, std::size_t number) {
        const FleetLayer& l = fleet_.layers[number];
        const LayerUsage& layer = usage_.layers[number];
        const FleetFile& f = fleet_.files[l.file];
        const std::uint64_t bytes = f.identity.bytes + (l.data ? fleet_.files[*l.data].identity.bytes : 0);
        u.file_bytes += bytes;
        u.oldest = u.newest ? std::min(u.oldest, f.identity.mtime_sec) : f.identity.mtime_sec;
        u.newest = std::max(u.newest, f.identity.mtime_sec);
        if (layer.chains == 1) {
            u.own_file_bytes += bytes;
            u.freed_bytes += layer.wasted_bytes;
        } else {
            u.shared_layers++;
        }
    }

    Fleet& fleet_;
    const FleetUsageOptions options_;
    FleetUsage usage_;
    std::vector<std::vector<std::size_t>> children_;  // by layer: those that some chain has
    std::vector<std::size_t> chain_;                  // by layer: the chain that it is the top of
    std::vector<Tree> trees_;
    std::size_t layers_ = 0;
    Progress* progress_ = nullptr;
};

}  // namespace

FleetUsage measure_fleet(Fleet& fleet, const FleetUsageOptions& options) { return Surveyor(fleet, options).run(); }

}  // namespace dmchain::chain
