// SPDX-License-Identifier: GPL-2.0-or-later
// The pass over the chain. A window's entries are 64 KiB; with one L2 table at a time a thread works in
// its processor's cache, whatever the disk's size.
#include "chain/builder.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "chain/disk.hpp"
#include "chain/window.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"

namespace dmchain::chain {

namespace {

// Where the log of the layer on top goes on, for the superblock.
ActiveState state_of(const qcow2::Layer& top, std::uint16_t id) {
    const qcow2::Log* log = top.image() ? top.image()->log() : nullptr;
    if (!log) throw failed("{}: is no active layer", escaped(top.file().path()));
    if (log->cluster_bits() != index_cluster_bits)
        throw failed(
            "{}: is an active layer with clusters of {} bytes, the index has clusters of {}: make a plain qcow2 image of "
            "it with 'dmchain seal'",
            escaped(top.file().path()), 1u << log->cluster_bits(), 1u << index_cluster_bits);
    const qcow2::Log::Position& p = log->position();
    return {id, p.segment.offset, p.segment.bytes, p.next, p.sequence, p.epoch, log->end()};
}

LayerTable layers_of(const qcow2::Chain& chain, const BuildOptions& options) {
    LayerTable out(chain);
    for (const std::string& path : options.growing)
        for (std::size_t i = 0; i < chain.layers().size(); i++)
            if (chain.layers()[i]->file().identity().same_file(identity_of(path)))
                out.records[out.ids[i].image - 1u].flags |= htole32(CHAIN_LAYER_GROWING);
    return out;
}

class Builder {
public:
    Builder(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options)
        : chain_(chain),
          options_(options),
          geometry_(geometry_at(chain, chain.layers().size() - 1)),
          layers_(layers_of(chain, options)),
          writer_(path, geometry_, layers_) {}

    BuildResult run() {
        std::optional<ActiveState> active;
        if (options_.active) active = state_of(chain_.top(), layers_.ids.back().image);
        share_out(writer_.windows(), options_.threads, [this](Turns& turns, bool reports) { work(turns, reports); });
        return writer_.finish(active ? &*active : nullptr, options_.replace);
    }

private:
    // Takes windows until there are none.
    void work(Turns& turns, bool reports) {
        Window window(geometry_);
        qcow2::Scratch scratch;
        std::vector<std::byte> buffer;
        while (const auto w = turns.next()) {
            window.clear(*w * Window::cells);
            fill(window, chain_, chain_.layers().size() - 1, scratch,
                 [&](std::size_t number, const qcow2::Extent& x) { apply(window, number, x); });
            writer_.add(window, buffer);
            if (reports && options_.progress) options_.progress(window.first() + window.used(), geometry_.clusters());
        }
    }

    void apply(Window& window, std::size_t number, const qcow2::Extent& x) const {
        const LayerIds id = layers_.ids[number];
        if (x.kind != qcow2::Kind::data) return window.apply(x, id.image);
        // The last cluster of a file may run past its end, and reads zero there: from the first whole
        // subblock on the index says so, as a position past the end is none.
        const qcow2::Layer& layer = *chain_.layers()[number];
        const File& data = layer.data_file() ? *layer.data_file() : layer.file();
        const std::uint64_t unit = std::uint64_t{1} << geometry_.subblock_shift;
        const std::uint64_t there = (data.size() - x.host + unit - 1) & ~(unit - 1);
        if (there >= x.bytes) return window.apply(x, id.data);
        window.apply({x.guest, there, x.kind, x.host, 0}, id.data);
        window.apply({x.guest + there, x.bytes - there, qcow2::Kind::zero, 0, 0}, id.image);
    }

    const qcow2::Chain& chain_;
    const BuildOptions& options_;
    const Geometry geometry_;
    LayerTable layers_;
    Writer writer_;
};

}  // namespace

BuildResult build(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options) {
    return Builder(chain, path, options).run();
}

}  // namespace dmchain::chain
