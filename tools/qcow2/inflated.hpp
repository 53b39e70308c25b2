// SPDX-License-Identifier: GPL-2.0-or-later
// Compressed clusters of the layers of a chain, inflated one at a time. For those who read a disk.
#pragma once

#include <cstdint>
#include <vector>

#include "qcow2/chain.hpp"

namespace dmchain::qcow2 {

// For one thread.
class InflatedCluster {
public:
    // All bytes of the cluster of @layer whose stream is at byte @host of its file and has at most @host_bytes; until the next call,
    // and as long as that asks for the same one nothing is done. @guest: some byte of it in the disk, for the message. Throws damaged()
    // for what is no such stream.
    const unsigned char* get(const Layer& layer, std::uint64_t host, std::uint32_t host_bytes, std::uint64_t guest);

private:
    std::vector<unsigned char> stream_;
    std::vector<unsigned char> bytes_;
    const Layer* layer_ = nullptr;  // that it is of; nullptr: there is none yet
    std::uint64_t host_ = 0;
};

}  // namespace dmchain::qcow2
