// SPDX-License-Identifier: GPL-2.0-or-later
// What stands between a layer's tables and the sink of map(): extents are clipped to the range asked for,
// and neighbours that continue each other become one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "io/function_ref.hpp"
#include "qcow2/extent.hpp"

namespace dmchain::qcow2 {

using Sink = FunctionRef<void(const Extent&)>;

class Joiner {
public:
    Joiner(std::uint64_t begin, std::uint64_t end, Sink sink) : begin_(begin), end_(end), sink_(sink) {}

    // Ascending.
    void add(std::uint64_t guest, std::uint64_t bytes, Kind kind, std::uint64_t host, std::uint32_t host_bytes = 0) {
        if (guest < begin_) {
            std::uint64_t cut = begin_ - guest;
            if (bytes <= cut) return;
            guest += cut;
            bytes -= cut;
            if (kind == Kind::data) host += cut;
        }
        if (guest >= end_) return;
        bytes = std::min(bytes, end_ - guest);
        if (kind != Kind::compressed && last_.bytes != 0 && last_.kind == kind && last_.guest + last_.bytes == guest &&
            (kind == Kind::zero || last_.host + last_.bytes == host)) {
            last_.bytes += bytes;
            return;
        }
        flush();
        last_ = {guest, bytes, kind, host, host_bytes};
    }

    // After the last add().
    void flush() {
        if (last_.bytes != 0) sink_(last_);
        last_.bytes = 0;
    }

private:
    std::uint64_t begin_;
    std::uint64_t end_;
    Sink sink_;
    Extent last_{};
};

}  // namespace dmchain::qcow2
