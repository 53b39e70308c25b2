// SPDX-License-Identifier: GPL-2.0-or-later
// CRC-32C (RFC 3720, B.4), in the form that dm-chain-check.h asks its user to declare.
#pragma once

#include <linux/types.h>

#include <cstddef>

// @crc is the result for the bytes before @data, 0 at the start.
extern "C" __u32 chain_crc32c_more(__u32 crc, const void* data, std::size_t bytes);

namespace dmchain {

// The same without the processor's own instruction: for machines that lack it, and for the test
// that compares both.
__u32 crc32c_by_table(__u32 crc, const void* data, std::size_t bytes);

}  // namespace dmchain
