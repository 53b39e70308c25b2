// SPDX-License-Identifier: GPL-2.0-or-later
// See point.hpp.
#include "device/point.hpp"

#include "device/merge_note.hpp"
#include "io/text.hpp"

namespace dmchain::device {

bool is_active(const qcow2::Layer& layer) {
    const qcow2::Log* log = layer.image() ? layer.image()->log() : nullptr;
    return log && !log->successor();
}

std::size_t find_snapshot(const qcow2::Chain& chain, const std::string& text) {
    const std::size_t layer = chain::find_layer(chain, text);
    if (is_active(*chain.layers()[layer]))
        throw failed("{}: is the active layer, which still changes, and no snapshot: name none for the state of now",
                     escaped(chain.layers()[layer]->file().path()));
    require_settled(chain.layers()[layer]->file().name());
    chain::require_whole(chain::label_of(*chain.layers()[layer]), chain.layers()[layer]->file().path());
    return layer;
}

std::size_t find_point(const qcow2::Chain& chain, const std::optional<std::string>& text) {
    return text ? find_snapshot(chain, *text) : chain.layers().size() - 1;
}

}  // namespace dmchain::device
