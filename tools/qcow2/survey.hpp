// SPDX-License-Identifier: GPL-2.0-or-later
// What of each layer the disk on top still sees. For inspect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::qcow2 {

struct Usage {
    std::uint64_t clusters = 0;       // of the layer's own clusters: those it defines (data, compressed or zero) ...
    std::uint64_t live_clusters = 0;  // ... and those of which the top sees at least a part
    std::uint64_t live_bytes = 0;     // bytes of the disk that come from this layer, zeroes included
};

// One for each layer, base first. For a raw layer clusters are counted as 64 KiB. Calls @progress with bytes
// of the virtual disk as they are done.
std::vector<Usage> survey(const Chain& chain, FunctionRef<void(std::uint64_t)> progress);
// The same; calls @seen(layer, begin, end) for each part of the disk that comes from a layer, in bytes, in no order.
std::vector<Usage> survey(const Chain& chain, FunctionRef<void(std::uint64_t)> progress,
                          FunctionRef<void(std::size_t, std::uint64_t, std::uint64_t)> seen);

}  // namespace dmchain::qcow2
