// SPDX-License-Identifier: GPL-2.0-or-later
// See inflated.hpp.
#include "qcow2/inflated.hpp"

#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/inflate.hpp"

namespace dmchain::qcow2 {

const unsigned char* InflatedCluster::get(const Layer& layer, std::uint64_t host, std::uint32_t host_bytes, std::uint64_t guest) {
    if (layer_ == &layer && host_ == host) return bytes_.data();
    layer_ = nullptr;
    stream_.resize(host_bytes);
    layer.file().read(stream_.data(), stream_.size(), host);
    bytes_.resize(std::size_t{1} << layer.cluster_bits());
    if (!inflate_cluster(layer.compression(), stream_.data(), stream_.size(), bytes_.data(), bytes_.size()))
        throw damaged(
            "{}: compressed cluster at {:#x} for disk offset {:#x} cannot be inflated, expected a {} stream of {} bytes",
            escaped(layer.file().path()), host, guest & ~(std::uint64_t{bytes_.size()} - 1), name_of(layer.compression()),
            bytes_.size());
    layer_ = &layer;
    host_ = host;
    return bytes_.data();
}

}  // namespace dmchain::qcow2
