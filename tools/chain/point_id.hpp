// SPDX-License-Identifier: GPL-2.0-or-later
// Which snapshot this is, wherever its file lies and whatever its name: for streams (stream.hpp), which are applied to a copy
// of the disk as it was at the right one. docs/format.md, "The id of a snapshot", says why so.
#pragma once

#include "qcow2/chain.hpp"

namespace dmchain::chain {

// Of a layer that dm-chain made: the id of its log, which sealing keeps in the header, and a merge for the layer on top of what
// is merged. Of another layer: made of its size, time of modification and first bytes.
qcow2::LayerId point_id(const qcow2::Layer& layer);

// 32 hexadecimal digits.
std::string text_of(const qcow2::LayerId& id);

}  // namespace dmchain::chain
