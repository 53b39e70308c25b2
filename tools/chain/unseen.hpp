// SPDX-License-Identifier: GPL-2.0-or-later
// What lies in the layers of a chain, and is seen at none of some points of its history. For compact --prune.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/function_ref.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

struct Unseen {
    std::size_t layer;   // number from the base
    std::uint64_t from;  // byte of its file
    std::uint64_t bytes;
    std::size_t until;  // layer, above that one, whose state is the first that does not show it
};

// Calls @use for the plain data of layers that lie under what a layer up to @points.size() - 1 says, and that the disk shows at no point i
// with points[i]: the state that layer i holds. Compressed clusters are left out: they share what they lie in.
void each_unseen(const qcow2::Chain& chain, const std::vector<bool>& points, FunctionRef<void(const Unseen&)> use);

}  // namespace dmchain::chain
