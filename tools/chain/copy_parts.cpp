// SPDX-License-Identifier: GPL-2.0-or-later
// See copy_parts.hpp.
#include "chain/copy_parts.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "chain/disk.hpp"
#include "io/turns.hpp"

namespace dmchain::chain {

namespace {

constexpr std::size_t batch_pieces = 128;  // for which threads are started

}  // namespace

Readers readers_of(const qcow2::Chain& chain, std::size_t point) {
    return [disk = std::make_shared<Disk>(chain, point)]() -> ReadDisk {
        auto reader = std::make_shared<Disk::Reader>(disk);
        return [reader](void* buffer, std::size_t bytes, std::uint64_t offset) { reader->read(buffer, bytes, offset); };
    };
}

void copy_parts(const qcow2::Chain& chain, const Points& points, const CopyHow& how, FunctionRef<void(const Piece&)> use) {
    std::vector<Part> batch;
    const auto copy = [&] {
        share_out(batch.size(), copy_threads, [&](Turns& turns, bool) {
            const ReadDisk read = how.readers();
            std::vector<unsigned char> buffer;
            while (const auto i = turns.next()) {
                const Part& p = batch[*i];
                if (!p.zero) {
                    buffer.resize(copy_bytes);
                    read(buffer.data(), p.bytes, p.start);
                }
                const Piece piece{p.start, p.bytes, p.zero ? nullptr : buffer.data()};
                if (how.ordered)
                    turns.in_order(*i, [&] { use(piece); });
                else
                    use(piece);
            }
        });
        batch.clear();
    };
    const auto add = [&](const Part& p) {
        batch.push_back(p);
        if (batch.size() == batch_pieces) copy();
    };
    diff(chain, points, [&](const Part& p) {
        if (p.zero) return add(p);
        for (std::uint64_t at = 0; at < p.bytes; at += copy_bytes) add({p.start + at, std::min(copy_bytes, p.bytes - at), false});
    });
    copy();
}

}  // namespace dmchain::chain
