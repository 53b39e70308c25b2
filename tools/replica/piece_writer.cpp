// SPDX-License-Identifier: GPL-2.0-or-later
// See piece_writer.hpp.
#include "replica/piece_writer.hpp"

#include <ctime>

#include "replica/compression.hpp"

namespace dmchain::replica {

Piece PieceWriter::put(const std::vector<unsigned char>& data, const Digest& digest, unsigned copies, std::uint64_t disk) {
    Piece p;
    p.digest = digest;
    p.bytes = static_cast<std::uint32_t>(data.size());
    p.disk = disk;
    p.folders = places_.places_for(digest, copies);
    const std::vector<unsigned char> packed = compress_ && copies ? compressed(data) : std::vector<unsigned char>();
    for (std::size_t f = 0; f < places_.size(); f++) {
        if (!(p.folders >> f & 1)) continue;
        const std::uint64_t written = places_[f].put(p, data, packed), each = places_[f].copies();
        stored_.written_bytes += written * each;
        if (!written) stored_.reused_bytes += p.bytes * each;
        progress_(p.bytes * each);
    }
    stored_.pieces++;
    return p;
}

Stored PieceWriter::finish(const Manifest& snapshot, const std::vector<Manifest>& layers) {
    const auto put = [&](const Manifest& m, Place::Kind kind) {
        const std::vector<unsigned char> packed = m.pack();
        Manifest::unpack(packed, m.name);  // what nobody could read is not stored
        for (Place& f : places_) f.put_manifest(m.name, packed, kind == Place::Kind::layer, kind);
        stored_.written_bytes += packed.size() * places_.size();
    };
    // What a manifest names is durable everywhere before the first one is there.
    for (Place& f : places_) f.settle();
    for (const Manifest& m : layers) put(m, Place::Kind::layer);
    put(snapshot, Place::Kind::snapshot);
    return stored_;
}

Manifest new_manifest(const std::string& name, const Store& places) {
    Manifest m;
    m.name = name;
    m.created = static_cast<std::uint64_t>(std::time(nullptr));
    for (const Place& f : places) m.folders.push_back(f.name());
    return m;
}

}  // namespace dmchain::replica
