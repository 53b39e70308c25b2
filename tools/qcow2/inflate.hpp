// SPDX-License-Identifier: GPL-2.0-or-later
// Decompresses qcow2's compressed clusters in user space, accepting exactly what QEMU 7.2 accepts.
#pragma once

#include <cstddef>

#include "qcow2/header.hpp"

namespace dmchain::qcow2 {

// @stream_bytes is an upper bound: what follows the stream is ignored. Fills all of @out, or returns
// false: the stream is damaged, or shorter or (zstd) longer than @out_bytes.
bool inflate_cluster(Compression compression, const void* stream, std::size_t stream_bytes, void* out, std::size_t out_bytes);

}  // namespace dmchain::qcow2
