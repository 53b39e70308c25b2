// SPDX-License-Identifier: GPL-2.0-or-later
// See unseen.hpp. In windows of the disk the layers are laid over one another, base first; each unit remembers who has it, and whether
// some point has shown that.
#include "chain/unseen.hpp"

#include <algorithm>

namespace dmchain::chain {

namespace {

constexpr std::uint64_t most_units = 1u << 14;  // of a window
constexpr std::uint32_t nobody = 0;

struct Range {
    std::uint64_t begin, end;  // bytes of the disk
    std::size_t until;         // layer that covers it
};

class Owners {
public:
    Owners(const qcow2::Chain& chain, const std::vector<bool>& points, std::uint64_t unit)
        : chain_(chain), points_(points), unit_(unit), owner_(most_units), shown_(most_units), covered_(points.size()) {}

    void window(std::uint64_t begin, std::uint64_t end, FunctionRef<void(const Unseen&)> use) {
        begin_ = begin;
        std::fill(owner_.begin(), owner_.end(), nobody);
        std::fill(shown_.begin(), shown_.end(), false);
        for (std::size_t i = 0; i < points_.size(); i++) {
            now_ = i;
            const qcow2::Layer& layer = *chain_.layers()[i];
            layer.map(begin, end, scratch_, [&](const qcow2::Extent& e) {
                const bool data = e.kind != qcow2::Kind::zero;
                put(e.guest, e.guest + e.bytes, data ? static_cast<std::uint32_t>(i + 1) : nobody);
            });
            // A layer ends what lies below it.
            if (layer.virtual_size() < end) put(std::max(begin, layer.virtual_size()), end, nobody);
            if (points_[i]) std::fill(shown_.begin(), shown_.end(), true);
        }
        for (std::size_t i = 0; i < points_.size(); i++) {
            for (const Range& r : covered_[i])
                chain_.layers()[i]->map(r.begin, r.end, scratch_, [&](const qcow2::Extent& e) {
                    if (e.kind == qcow2::Kind::data) use({i, e.host, e.bytes, r.until});
                });
            covered_[i].clear();
        }
    }

private:
    void put(std::uint64_t begin, std::uint64_t end, std::uint32_t owner) {
        for (std::uint64_t next; begin < end; begin = next) {
            const std::size_t u = (begin - begin_) / unit_;
            next = std::min(end, begin / unit_ * unit_ + unit_);
            if (owner_[u] != nobody && !shown_[u]) cover(owner_[u] - 1, begin, next);
            owner_[u] = owner;
            shown_[u] = false;
        }
    }

    void cover(std::size_t layer, std::uint64_t begin, std::uint64_t end) {
        std::vector<Range>& all = covered_[layer];
        if (!all.empty() && all.back().end == begin && all.back().until == now_)
            all.back().end = end;
        else
            all.push_back({begin, end, now_});
    }

    const qcow2::Chain& chain_;
    const std::vector<bool>& points_;
    const std::uint64_t unit_;
    qcow2::Scratch scratch_;
    std::uint64_t begin_ = 0;
    std::size_t now_ = 0;  // layer that is laid over the others
    std::vector<std::uint32_t> owner_;
    std::vector<bool> shown_;
    std::vector<std::vector<Range>> covered_;  // by layer, of this window
};

}  // namespace

void each_unseen(const qcow2::Chain& chain, const std::vector<bool>& points, FunctionRef<void(const Unseen&)> use) {
    const std::uint64_t unit = chain.unit();
    std::uint64_t size = 0;
    for (std::size_t i = 0; i < points.size(); i++) size = std::max(size, chain.layers()[i]->virtual_size());
    Owners owners(chain, points, unit);
    for (std::uint64_t begin = 0; begin < size; begin += most_units * unit)
        owners.window(begin, std::min(begin + most_units * unit, size), use);
}

}  // namespace dmchain::chain
