// SPDX-License-Identifier: GPL-2.0-or-later
// See space.hpp. The disk is taken in windows, in each of which the layers are laid over one another, base first, and each unit
// remembers who has it.
#include "qcow2/space.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "io/turns.hpp"

namespace dmchain::qcow2 {

namespace {

constexpr std::uint64_t most_units = 1u << 21;  // of a window
constexpr std::uint64_t window_bytes = 1u << 30;

class Owners {
public:
    Owners(const Chain& chain, std::uint64_t unit, std::uint64_t bytes) : chain_(chain), unit_(unit), owner_(bytes / unit) {}

    // Adds what the layers have in [begin, end) to @sum.
    void add(std::uint64_t begin, std::uint64_t end, Scratch& scratch, std::vector<Space>& sum) {
        begin_ = begin;
        const std::size_t units = (end - begin + unit_ - 1) / unit_;
        std::fill_n(owner_.begin(), units, nobody);
        std::uint64_t seen = 0;      // bytes that are data at this layer
        std::uint64_t high = begin;  // nobody has anything from here on
        for (std::size_t i = 0; i < chain_.layers().size(); i++) {
            const Layer& layer = *chain_.layers()[i];
            const auto number = static_cast<std::uint32_t>(i + 1);
            Space* below = i ? &sum[i - 1] : nullptr;
            layer.map(begin, end, scratch, [&](const Extent& e) {
                const bool data = e.kind != Kind::zero;
                if (data) sum[i].written += e.bytes;
                if (data) high = std::max(high, e.guest + e.bytes);
                put(e.guest, e.guest + e.bytes, data ? number : nobody, number, seen, below);
            });
            // A layer ends what lies below it.
            put(std::max(begin, layer.virtual_size()), high, nobody, number, seen, below);
            high = std::min(high, std::max(begin, layer.virtual_size()));
            sum[i].referenced += seen;
        }
    }

private:
    static constexpr std::uint32_t nobody = 0;

    // The range becomes @owner's, as layer @number says.
    void put(std::uint64_t begin, std::uint64_t end, std::uint32_t owner, std::uint32_t number, std::uint64_t& seen,
             Space* below) {
        while (begin < end) {
            std::uint32_t& o = owner_[(begin - begin_) / unit_];
            const std::uint64_t n = std::min(end, begin / unit_ * unit_ + unit_) - begin;
            if (o != nobody) seen -= n;
            if (below && o == number - 1) below->unique += n;
            if (owner != nobody) seen += n;
            o = owner;
            begin += n;
        }
    }

    const Chain& chain_;
    const std::uint64_t unit_;
    std::uint64_t begin_ = 0;
    std::vector<std::uint32_t> owner_;  // of each unit of the window: number of the layer from the base, which is 1
};

}  // namespace

std::vector<Space> measure_space(const Chain& chain, FunctionRef<void(std::uint64_t)> progress) {
    const std::uint64_t unit = chain.unit(), all = chain.virtual_size();
    // Whole L2 tables, so that each is read once, as far as the memory allows.
    const std::uint64_t bytes = std::min(window_bytes, most_units * unit);
    std::vector<Space> out(chain.layers().size());
    std::mutex adding;
    std::atomic<std::uint64_t> done = 0;
    share_out((all + bytes - 1) / bytes, 0, [&](Turns& turns, bool reports) {
        Owners owners(chain, unit, bytes);
        Scratch scratch;
        std::vector<Space> sum(out.size());
        std::uint64_t reported = 0;
        while (const auto turn = turns.next()) {
            const std::uint64_t begin = *turn * bytes, end = std::min(all, begin + bytes);
            owners.add(begin, end, scratch, sum);
            done += end - begin;
            if (!reports) continue;
            progress(done - reported);
            reported = done;
        }
        const std::lock_guard guard(adding);
        for (std::size_t i = 0; i < out.size(); i++) {
            out[i].written += sum[i].written;
            out[i].referenced += sum[i].referenced;
            out[i].unique += sum[i].unique;
        }
    });
    return out;
}

}  // namespace dmchain::qcow2
