// SPDX-License-Identifier: GPL-2.0-or-later
// See rebuild.hpp.
#include "device/rebuild.hpp"

#include "chain/owner.hpp"
#include "chain/recover.hpp"
#include "device/live.hpp"
#include "device/start.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "qcow2/owner.hpp"

namespace dmchain::device {

namespace {

// The device that had the layer last, or, if that is not noted, one with the layer's own name.
std::string device_of(const File& layer, std::uint32_t cluster_bits) {
    const auto owner = qcow2::read_owner(layer, cluster_bits);
    return owner && owner->sound && !owner->device.empty() ? owner->device : default_name(layer.name());
}

}  // namespace

Rebuilt rebuild(const std::string& named, const RebuildOptions& o) {
    const chain::Top top = chain::find_top(named, o.chain);
    if (const auto use = user_of(identity_of(top.path)))
        throw failed("{}: is the {} layer of the device {}: remove that first", escaped(top.path), use->layer.state,
                     escaped(use->device.name));
    if (!o.dry_run) chain::require_ours(top.path, o.take_over);

    qcow2::ChainOptions options = o.chain;
    options.in_use = true;
    const qcow2::Chain chain(top.path, options);
    chain::require_closed_logs(chain);
    const qcow2::Log& log = *chain.top().image()->log();
    Rebuilt out;
    out.path =
        o.path.empty() ? default_chain_file(top.path, device_of(chain.top().file(), log.cluster_bits())) : absolute_name(o.path);
    out.active = chain.top().file().name();
    out.passed = top.passed;
    out.bytes = chain.virtual_size();
    out.layers = chain.layers().size();
    out.log_blocks = log.position().sequence - 1;
    out.active_clusters = log.clusters().size();
    const bool replace = check_chain_file_place(out.path, true);
    if (!o.dry_run) build_chain_file(chain, out.path, true, replace);
    return out;
}

}  // namespace dmchain::device
