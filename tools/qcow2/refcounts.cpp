// SPDX-License-Identifier: GPL-2.0-or-later
// See refcounts.hpp.
#include "qcow2/refcounts.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "io/text.hpp"
#include "qcow2/references.hpp"

namespace dmchain::qcow2 {
namespace {

constexpr const char* repair = "repair it with \"qemu-img check -r all\"";

// Reads refcounts, a block at a time.
class Refcounts {
public:
    explicit Refcounts(const Image& image)
        : image_(image),
          h_(image.header()),
          per_block_((h_.cluster_size() * 8) >> h_.refcount_order),
          entries_(h_.refcount_table_clusters * h_.cluster_size() / 8) {}

    // Of the cluster with this number; 0 also where there is no block.
    std::uint64_t get(std::uint64_t cluster) {
        if (!loaded_ || cluster / per_block_ != number_) load(cluster / per_block_);
        if (block_.empty()) return 0;
        const std::uint64_t i = cluster % per_block_;
        switch (h_.refcount_order) {
        case 6: return be64(&block_[i * 8]);
        case 5: return be32(&block_[i * 4]);
        case 4: return be16(&block_[i * 2]);
        case 3: return block_[i];
        default: {  // fewer than 8 bits: the first entry is in the least significant bits
            const unsigned bits = 1u << h_.refcount_order;
            return block_[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
        }
        }
    }

    // Calls @use(cluster, refcount) for the clusters of the file whose refcount is not 0, ascending. A block that the
    // table names twice, which opening the image reported, counts once.
    template <typename F>
    void each(F use) {
        const std::uint64_t clusters = (image_.file().size() + h_.cluster_size() - 1) >> h_.cluster_bits;
        std::set<std::uint64_t> done;
        for (std::uint64_t n = 0; n < entries_ && n * per_block_ < clusters; n++) {
            const std::uint64_t offset = load(n);
            if (block_.empty() || !done.insert(offset).second) continue;
            if (std::all_of(block_.begin(), block_.end(), [](unsigned char c) { return c == 0; })) continue;
            for (std::uint64_t c = n * per_block_; c < std::min(clusters, (n + 1) * per_block_); c++)
                if (const std::uint64_t r = get(c)) use(c, r);
        }
    }

private:
    // Returns the block's offset.
    std::uint64_t load(std::uint64_t number) {
        loaded_ = true;
        number_ = number;
        block_.clear();
        if (number >= entries_) return 0;
        unsigned char entry[8];
        image_.file().read(entry, sizeof entry, h_.refcount_table_offset + number * 8);
        const std::uint64_t offset = be64(entry);
        if (offset == 0 || offset % h_.cluster_size() != 0 || offset >= image_.file().size()) return 0;
        block_.resize(h_.cluster_size());
        image_.file().read_padded(block_.data(), block_.size(), offset);
        return offset;
    }

    const Image& image_;
    const Header& h_;
    const std::uint64_t per_block_;     // refcounts in a block
    const std::uint64_t entries_;       // of the refcount table
    std::vector<unsigned char> block_;  // the one at hand; empty: there is none
    std::uint64_t number_ = 0;
    bool loaded_ = false;
};

}  // namespace

std::uint64_t check_refcounts(const Image& image, FunctionRef<bool(std::uint64_t)> known, Faults& faults) {
    const unsigned bits = image.header().cluster_bits;
    const std::string name = escaped(image.file().path());
    const References references(image, faults);
    Refcounts refcounts(image);

    references.each([&](std::uint64_t c) {
        if (refcounts.get(c) < references.count(c) && !known(c))
            faults.add({"the cluster at", c << bits, (c + 1) << bits},
                       "{}: refcount of the cluster at {:#x} ({}) is {}, expected at least {}; {}", name, c << bits,
                       references.what(c), refcounts.get(c), references.count(c), repair);
    });

    // The flag says that the refcount is 1, so that the cluster may be written in place.
    references.current_entries([&](const References::Entry& e) {
        const bool copied = e.value & flag_copied, compressed = e.l2 && e.value & flag_compressed;
        const std::uint64_t refcount = refcounts.get(e.cluster);
        if (refcount < references.count(e.cluster) || copied == (refcount == 1 && !compressed)) return;
        const char* kind = compressed ? "compressed" : !e.l2 ? (copied ? "L1" : "L1 lacks") : copied ? "L2" : "L2 lacks";
        const Faults::Spot spot{"the entry at", e.at, e.at + (e.l2 ? image.header().l2_entry_bytes() : 8), kind};
        if (compressed)
            faults.add(spot, "{}: L2 entry at {:#x} of a compressed cluster has the copied flag, expected none; {}", name, e.at,
                       repair);
        else
            faults.add(spot,
                       "{}: {} entry at {:#x} has {} copied flag, expected {}, as the refcount of the cluster at {:#x} is {}; {}",
                       name, e.l2 ? "L2" : "L1", e.at, copied ? "the" : "no", copied ? "none" : "it", e.cluster << bits, refcount,
                       repair);
    });

    std::uint64_t leaked = 0;
    refcounts.each([&](std::uint64_t c, std::uint64_t refcount) { leaked += refcount > references.count(c); });
    return leaked;
}

}  // namespace dmchain::qcow2
