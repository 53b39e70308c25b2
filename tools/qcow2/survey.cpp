// SPDX-License-Identifier: GPL-2.0-or-later
// See survey.hpp.
#include "qcow2/survey.hpp"

#include <algorithm>

namespace dmchain::qcow2 {
namespace {

// Done in pieces of the disk, so that what is remembered of a piece stays small.
constexpr std::uint64_t min_piece = std::uint64_t{8} << 30;

struct Range {
    std::uint64_t begin;
    std::uint64_t end;
};

// Counts clusters of ascending ranges, each cluster once.
class ClusterCount {
public:
    explicit ClusterCount(std::uint32_t bits) : bits_(bits) {}
    void add(std::uint64_t begin, std::uint64_t end) {
        std::uint64_t first = std::max(begin >> bits_, next_);
        std::uint64_t last = (end - 1) >> bits_;
        if (last < first) return;
        count_ += last - first + 1;
        next_ = last + 1;
    }
    std::uint64_t count() const { return count_; }

private:
    std::uint32_t bits_;
    std::uint64_t next_ = 0;
    std::uint64_t count_ = 0;
};

}  // namespace

std::vector<Usage> survey(const Chain& chain, FunctionRef<void(std::uint64_t)> progress) {
    const auto nobody_asks = [](std::size_t, std::uint64_t, std::uint64_t) {};
    return survey(chain, progress, nobody_asks);
}

std::vector<Usage> survey(const Chain& chain, FunctionRef<void(std::uint64_t)> progress,
                          FunctionRef<void(std::size_t, std::uint64_t, std::uint64_t)> seen) {
    std::vector<Usage> usage(chain.layers().size());
    Scratch scratch;
    std::vector<Range> open;   // ranges that no layer so far defines, ascending
    std::vector<Range> below;  // what the layer at hand leaves of them
    // At least an L2 table's worth, so that a disk of exabytes takes no more turns than its L1 table has entries.
    const std::uint64_t piece = std::max(min_piece, chain.top().image()->header().l2_span());
    for (std::uint64_t at = 0; at < chain.virtual_size(); at += piece) {
        const std::uint64_t end = std::min(chain.virtual_size(), at + piece);
        open.assign(1, {at, end});
        for (std::size_t number = chain.layers().size(); number-- > 0;) {
            const Layer& layer = *chain.layers()[number];
            const std::uint32_t bits = layer.format() == Format::raw ? 16 : layer.cluster_bits();
            ClusterCount all(bits);
            ClusterCount live(bits);
            std::size_t i = 0;
            below.clear();
            layer.map(at, end, scratch, [&](const Extent& e) {
                const std::uint64_t e_end = e.guest + e.bytes;
                all.add(e.guest, e_end);
                while (i < open.size() && open[i].begin < e_end) {
                    Range& r = open[i];
                    if (r.begin < e.guest) {
                        below.push_back({r.begin, std::min(r.end, e.guest)});
                        r.begin = std::min(r.end, e.guest);
                    }
                    const std::uint64_t until = std::min(r.end, e_end);
                    if (until > r.begin) {
                        live.add(r.begin, until);
                        usage[number].live_bytes += until - r.begin;
                        seen(number, r.begin, until);
                        r.begin = until;
                    }
                    if (r.begin < r.end) break;
                    i++;
                }
            });
            // The layer's end hides what is below from there on.
            for (; i < open.size() && open[i].begin < layer.virtual_size(); i++)
                below.push_back({open[i].begin, std::min(open[i].end, layer.virtual_size())});
            open.swap(below);
            usage[number].clusters += all.count();
            usage[number].live_clusters += live.count();
        }
        progress(end - at);
    }
    return usage;
}

}  // namespace dmchain::qcow2
