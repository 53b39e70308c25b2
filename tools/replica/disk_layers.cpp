// SPDX-License-Identifier: GPL-2.0-or-later
// See disk_layers.hpp. Pages are of 4096 bytes; the last one of a disk may be a part of one, with zeroes behind it. A piece has the
// pages with data of one stretch of the disk of 1 MiB.
#include "replica/disk_layers.hpp"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <utility>

#include "chain/copy_parts.hpp"
#include "chain/diff.hpp"
#include "chain/point_id.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"
#include "io/zeroes.hpp"
#include "replica/catalog.hpp"
#include "replica/free_blocks.hpp"

namespace dmchain::replica {

namespace {

using guest::page_bytes;

constexpr std::uint64_t piece_pages = most_piece / page_bytes;

std::uint64_t pages_of(std::uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes; }

// The runs of a layer, from parts of the disk.
class Runs {
public:
    explicit Runs(std::uint64_t disk_bytes) : disk_bytes_(disk_bytes) {}

    void add(const chain::Part& p) {
        if (p.start >= disk_bytes_) return;
        const std::uint64_t end = std::min(p.start + p.bytes, disk_bytes_);
        const std::uint64_t last = end == disk_bytes_ ? pages_of(end) : end / page_bytes;
        // A page of which a part is zero is one with data.
        const std::uint64_t whole = pages_of(p.start);
        if (!p.zero || whole > last) return add(Run::Kind::piece, p.start / page_bytes, pages_of(end));
        add(Run::Kind::piece, p.start / page_bytes, whole);
        add(Run::Kind::zero, whole, last);
        add(Run::Kind::piece, last, pages_of(end));
    }
    std::vector<Run> take() { return std::move(runs_); }

private:
    void add(Run::Kind kind, std::uint64_t first, std::uint64_t end) {
        // Parts may meet in a page, which is one with data then.
        first = std::max(first, next_);
        if (first >= end) return;
        next_ = end;
        if (!runs_.empty() && runs_.back().kind == kind && runs_.back().page + runs_.back().pages == first) {
            runs_.back().pages += end - first;
            return;
        }
        Run r;
        r.kind = kind;
        r.page = first;
        r.pages = end - first;
        runs_.push_back(r);
    }

    const std::uint64_t disk_bytes_;
    std::uint64_t next_ = 0;
    std::vector<Run> runs_;
};

// Of the runs with data, what lies in @free, ascending, becomes unused.
std::vector<Run> without(const std::vector<Run>& runs, const std::vector<DiskRange>& free) {
    std::vector<Run> out;
    auto f = free.begin();
    const auto add = [&](Run r, Run::Kind kind, std::uint64_t first, std::uint64_t end) {
        if (first >= end) return;
        r.kind = kind;
        r.page = first;
        r.pages = end - first;
        out.push_back(r);
    };
    for (const Run& r : runs) {
        std::uint64_t at = r.page;
        const std::uint64_t end = r.page + r.pages;
        while (r.kind == Run::Kind::piece && at < end) {
            while (f != free.end() && f->end / page_bytes <= at) ++f;
            if (f == free.end() || pages_of(f->begin) >= end) break;
            const std::uint64_t from = std::max(at, pages_of(f->begin)), to = std::min(end, f->end / page_bytes);
            add(r, r.kind, at, std::min(from, end));
            add(r, Run::Kind::unused, from, to);
            at = std::max(from, to);
        }
        add(r, r.kind, at, end);
    }
    return out;
}

bool has_copies(const Manifest& m, const Store& places, unsigned copies) {
    return std::all_of(m.pieces.begin(), m.pieces.end(), [&](const Piece& p) {
        unsigned there = 0;
        for (const Place& f : places)
            if (f.has(p)) there += f.copies();
        return static_cast<unsigned>(std::popcount(p.folders)) >= places.places_of(copies) && there >= copies;
    });
}

Manifest manifest_of(const qcow2::Chain& chain, std::size_t number, const Store& places) {
    const qcow2::Layer& layer = *chain.layers()[number];
    DiskLayer of{chain::text_of(chain::point_id(layer)),
                 "",
                 chain::bytes_to(chain, {{}, number}),
                 std::filesystem::path(layer.file().name()).filename().string(),
                 {}};
    if (number) of.below = chain::text_of(chain::point_id(*chain.layers()[number - 1]));
    if (layer.image()) of.label = layer.image()->header().label;
    Manifest m = new_manifest(of.name(), places);
    m.blocks.push_back({"disk", pages_of(of.bytes) * page_bytes, 0, 0});
    m.layer = std::move(of);
    return m;
}

void fill_runs(const qcow2::Chain& chain, LayerPlan& plan) {
    chain::Points points{{}, plan.number};
    if (plan.number) points.from = plan.number - 1;
    const std::uint64_t bytes = plan.manifest.layer->bytes;
    Runs runs(bytes);
    chain::diff(chain, points, [&](const chain::Part& p) { runs.add(p); });
    plan.manifest.runs = runs.take();
    const auto has_data = [](const Run& r) { return r.kind == Run::Kind::piece; };
    if (std::any_of(plan.manifest.runs.begin(), plan.manifest.runs.end(), has_data))
        plan.manifest.runs = without(plan.manifest.runs, free_blocks(chain::readers_of(chain, plan.number)(), bytes));
    for (const Run& r : plan.manifest.runs) {
        if (r.kind == Run::Kind::piece) plan.data_bytes += r.pages * page_bytes;
        if (r.kind == Run::Kind::unused) plan.free_bytes += r.pages * page_bytes;
    }
}

class Storing {
public:
    Storing(const qcow2::Chain& chain, LayerPlan& plan, unsigned copies, PieceWriter& pieces)
        : manifest_(plan.manifest), readers_(chain::readers_of(chain, plan.number)), copies_(copies), pieces_(pieces) {}

    void run() {
        for (const Run& r : std::exchange(manifest_.runs, {})) {
            if (r.kind != Run::Kind::piece) {
                manifest_.runs.push_back(r);
                continue;
            }
            for (std::uint64_t at = r.page, n; at < r.page + r.pages; at += n) {
                n = std::min(r.page + r.pages - at, piece_pages - at % piece_pages);
                add(at, n);
            }
        }
        store();
        std::sort(manifest_.runs.begin(), manifest_.runs.end(), [](const Run& a, const Run& b) { return a.page < b.page; });
    }

private:
    static constexpr std::size_t most_batch = 64;
    struct Pages {
        std::uint64_t first, count;
    };

    // Of one stretch.
    void add(std::uint64_t first, std::uint64_t count) {
        if (batch_.empty() || batch_.back().front().first / piece_pages != first / piece_pages) {
            if (batch_.size() == most_batch) store();
            batch_.emplace_back();
        }
        batch_.back().push_back({first, count});
    }

    void store() {
        share_out(batch_.size(), chain::copy_threads, [&](Turns& turns, bool) {
            const chain::ReadDisk read = readers_();
            std::vector<unsigned char> data;
            std::vector<Run> made;
            while (const auto i = turns.next()) {
                data.clear();
                made.clear();
                for (const Pages& p : batch_[*i]) read_pages(read, p, data, made);
                const Digest digest = data.empty() ? Digest{} : digest_of(data.data(), data.size());
                turns.in_order(*i, [&] { keep(data, digest, made); });
            }
        });
        batch_.clear();
    }

    // Those that have only zeroes are said to be zero.
    void read_pages(const chain::ReadDisk& read, const Pages& p, std::vector<unsigned char>& data, std::vector<Run>& made) const {
        const std::uint64_t begin = p.first * page_bytes, end = begin + p.count * page_bytes;
        std::vector<unsigned char> pages(end - begin);
        read(pages.data(), std::min(end, manifest_.layer->bytes) - begin, begin);
        for (std::uint64_t i = 0; i < p.count; i++) {
            const unsigned char* const page = &pages[i * page_bytes];
            const bool zero = is_zero(page, page_bytes);
            Run one;
            one.kind = zero ? Run::Kind::zero : Run::Kind::piece;
            one.page = p.first + i;
            one.pages = 1;
            one.at = zero ? 0 : static_cast<std::uint32_t>(data.size() / page_bytes);
            if (!zero) data.insert(data.end(), page, page + page_bytes);
            append(made, one);
        }
    }

    void keep(const std::vector<unsigned char>& data, const Digest& digest, const std::vector<Run>& made) {
        const auto number = static_cast<std::uint32_t>(manifest_.pieces.size());
        if (!data.empty()) manifest_.pieces.push_back(pieces_.put(data, digest, copies_));
        for (Run r : made) {
            if (r.kind == Run::Kind::piece) r.piece = number;
            manifest_.runs.push_back(r);
        }
    }

    Manifest& manifest_;
    const chain::Readers readers_;
    const unsigned copies_;
    PieceWriter& pieces_;
    std::vector<std::vector<Pages>> batch_;  // with data, those of one stretch together
};

}  // namespace

std::vector<LayerPlan> plan_layers(const qcow2::Chain& chain, std::size_t point, const Store& places, unsigned copies,
                                   const std::function<void(std::uint64_t)>& progress) {
    std::vector<LayerPlan> out;
    for (std::size_t i = 0; i <= point; i++) {
        if (const auto* const image = chain.layers()[i]->image(); image && image->log())
            throw failed("{}: is not sealed yet: only sealed layers are stored", escaped(image->file().path()));
        LayerPlan plan;
        plan.number = i;
        plan.manifest = manifest_of(chain, i, places);
        Manifests there = read_manifests(places, plan.manifest.name, Place::Kind::layer);
        if (there.manifest && has_copies(*there.manifest, places, copies)) {
            plan.stored = true;
            plan.spread = static_cast<std::size_t>(std::popcount(there.sound)) < places.size();
            plan.manifest = std::move(*there.manifest);
        } else {
            fill_runs(chain, plan);
        }
        out.push_back(std::move(plan));
        progress(1);
    }
    return out;
}

std::vector<bool> left_out(const std::vector<LayerPlan>& layers) {
    std::vector<bool> out;
    for (const LayerPlan& l : layers) {
        out.resize(pages_of(l.manifest.layer->bytes));
        for (const Run& r : l.manifest.runs)
            std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(r.page), r.pages, r.kind == Run::Kind::unused);
    }
    return out;
}

std::vector<Manifest> store_layers(const qcow2::Chain& chain, std::vector<LayerPlan>& layers, unsigned copies,
                                   PieceWriter& pieces) {
    std::vector<Manifest> out;
    for (LayerPlan& l : layers) {
        if (!l.stored) Storing(chain, l, copies, pieces).run();
        if (!l.stored || l.spread) out.push_back(std::move(l.manifest));
    }
    return out;
}

}  // namespace dmchain::replica
