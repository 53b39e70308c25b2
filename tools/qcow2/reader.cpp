// SPDX-License-Identifier: GPL-2.0-or-later
// See reader.hpp.
#include "qcow2/reader.hpp"

#include <algorithm>
#include <cstring>

namespace dmchain::qcow2 {

void Reader::read(void* buffer, std::size_t bytes, std::uint64_t offset) {
    std::memset(buffer, 0, bytes);
    const std::uint64_t size = chain_.layers()[top_]->virtual_size();
    if (offset >= size || bytes == 0) return;
    const std::uint64_t end = std::min(size, offset + std::min<std::uint64_t>(bytes, size - offset));
    const std::uint64_t first = offset & ~std::uint64_t{511};
    const std::uint64_t last = (end + 511) & ~std::uint64_t{511};
    std::vector<unsigned char> whole;
    auto* to = static_cast<unsigned char*>(buffer);
    if (first != offset || last != end) {
        whole.resize(last - first);
        to = whole.data();
    }
    std::vector<Range> want = {{first, last}};
    std::vector<Range> below;
    for (std::size_t number = top_ + 1; number-- > 0 && !want.empty();) {
        below.clear();
        for (const Range& r : want) read_layer(number, to + (r.begin - first), r, below);
        want.swap(below);
    }
    if (!whole.empty()) std::memcpy(buffer, whole.data() + (offset - first), end - offset);
}

// What the layer does not define goes to @below; what lies past its end is zero and stays so.
void Reader::read_layer(std::size_t number, unsigned char* buffer, const Range& want, std::vector<Range>& below) {
    const Layer& layer = *chain_.layers()[number];
    std::uint64_t next = want.begin;
    layer.map(want.begin, want.end, scratch_, [&](const Extent& extent) {
        if (extent.guest > next) below.push_back({next, extent.guest});
        next = extent.guest + extent.bytes;
        copy(number, extent, buffer + (extent.guest - want.begin));
    });
    std::uint64_t end = std::min(want.end, layer.virtual_size());
    if (next < end) below.push_back({next, end});
}

void Reader::copy(std::size_t number, const Extent& extent, unsigned char* to) {
    const Layer& layer = *chain_.layers()[number];
    switch (extent.kind) {
    case Kind::zero: std::memset(to, 0, extent.bytes); break;
    case Kind::data: {
        const File& file = layer.data_file() ? *layer.data_file() : layer.file();
        file.read_padded(to, extent.bytes, extent.host);
        break;
    }
    case Kind::compressed: {
        std::uint64_t within = extent.guest & ((std::uint64_t{1} << layer.cluster_bits()) - 1);
        std::memcpy(to, inflated_.get(layer, extent.host, extent.host_bytes, extent.guest) + within, extent.bytes);
        break;
    }
    }
}

}  // namespace dmchain::qcow2
