// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: a small qcow2 image whose internal snapshot has the state of a machine, as savevm stores it.
#pragma once

#include <string>

#include "support/image_maker.hpp"

namespace dmchain::test {

class StateMaker {
public:
    // @state: at most what one L2 table maps.
    explicit StateMaker(const std::string& state) : image(options()) {
        const std::uint64_t cluster = image.cluster, clusters = (state.size() + cluster - 1) / cluster;
        // The snapshot's L1 table gets a second entry: the disk needs the first one.
        l2_ = image.bytes.size();
        image.bytes.resize(l2_ + (1 + clusters) * cluster);
        image.put64(10 * cluster + 8, l2_);
        for (std::uint64_t c = 0; c < clusters; c++) image.put64(l2_ + 8 * c, l2_ + (1 + c) * cluster);
        image.put_text(l2_ + cluster, state);
        image.put32(image.snapshots() + 8, 2);
        image.put64(image.snapshots() + 40, state.size());
        for (std::uint64_t c = l2_ / cluster; c < image.bytes.size() / cluster; c++)
            image.put16(image.refcount_block() + 2 * c, 1);
    }
    // Of the L2 table of the state, in the file.
    std::uint64_t first_entry() const { return l2_; }
    const std::string& bytes() const { return image.bytes; }

    Maker image;

private:
    static MakerOptions options() {
        MakerOptions o;
        o.snapshot = true;
        return o;
    }
    std::uint64_t l2_ = 0;
};

}  // namespace dmchain::test
