// SPDX-License-Identifier: GPL-2.0-or-later
// See growing.hpp.
#include "device/growing.hpp"

#include <algorithm>

#include "device/start.hpp"
#include "io/text.hpp"

namespace dmchain::device {

void rebuild_chain_files(const Subject& subject, const AtRest& rest, const std::vector<std::string>& growing,
                         const std::optional<std::pair<std::string, std::string>>& instead) {
    if (rest.chain_files.empty()) return;
    qcow2::ChainOptions o = rest.options();
    o.instead = instead;
    const qcow2::Chain chain = subject.open(o);
    for (const std::string& file : rest.chain_files)
        build_chain_file(chain, file, chain.top().image() && chain.top().image()->log(), true, growing);
}

void tell_growing(const Subject& subject, const AtRest& rest, const std::vector<std::string>& paths, bool growing) {
    if (!subject.device) return rebuild_chain_files(subject, rest, growing ? paths : std::vector<std::string>());
    const Live live = look_at(subject.name);
    for (const std::string& path : paths) {
        const Identity who = identity_of(path);
        const auto is = [&](const dm::OpenLayer& l) { return l.is(who); };
        const auto l = std::find_if(live.layers.begin(), live.layers.end(), is);
        if (l == live.layers.end()) throw failed("{}: has not the layer {}", escaped(subject.name), in_quotes(path));
        dm::message(subject.name, fmt::format("{} {}", growing ? "growing" : "grown", l->id));
    }
}

}  // namespace dmchain::device
