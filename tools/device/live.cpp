// SPDX-License-Identifier: GPL-2.0-or-later
// See live.hpp.
#include "device/live.hpp"

#include <bit>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::device {

bool leads_to(const std::string& path, const dm::OpenLayer& layer) {
    const auto there = find_identity(path);
    return there && layer.is(*there);
}

std::string find_name(const dm::OpenLayer& layer) {
    if (leads_to(layer.path, layer)) return layer.path;
    return leads_to(layer.now, layer) ? layer.now : std::string();
}

const dm::OpenLayer* Live::active() const {
    for (const auto& l : layers)
        if (l.state == "active") return &l;
    return nullptr;
}

std::vector<dm::OpenLayer> Live::frozen() const {
    std::vector<dm::OpenLayer> out;
    for (const auto& l : layers)
        if (l.state == "frozen") out.push_back(l);
    return out;
}

std::uint32_t Live::cluster_bits() const { return static_cast<std::uint32_t>(std::countr_zero(status.cluster_sectors * 512)); }
std::uint32_t Live::subblock_bits() const { return static_cast<std::uint32_t>(std::countr_zero(status.subblock_sectors * 512)); }

Live look_at(const std::string& name) {
    Live out;
    out.name = name;
    out.status = dm::status(name);
    out.layers = dm::layers(name);
    out.chain = out.layers.front();
    out.layers.erase(out.layers.begin());
    return out;
}

Live look_at_writable(const std::string& name) {
    const dm::Status status = dm::status(name);
    if (status.active == "-") throw failed("{}: the device has no active layer: it can only be read", escaped(name));
    return look_at(name);
}

std::optional<Use> user_of(const Identity& who) {
    for (const dm::Device& d : dm::list_if_any()) {
        try {
            Live l = look_at(d.name);
            if (l.chain.is(who)) return Use{l, l.chain};
            for (const auto& layer : l.layers)
                if (layer.is(who)) return Use{l, layer};
        } catch (const Error& e) {
            fmt::print(stderr, "dmchain: not looked at: {}\n", e.what());
        }
    }
    return std::nullopt;
}

bool has_name(const dm::OpenLayer& layer) { return !find_name(layer).empty(); }

std::string name_of(const dm::OpenLayer& layer, const std::string& device) {
    const std::string name = find_name(layer);
    if (!name.empty()) return name;
    throw failed(
        "{}: the {} layer of the device {} was removed, and goes with the device: copy /dev/mapper/{} before you remove that "
        "(with 'dmsetup remove')",
        escaped(layer.path), layer.state, escaped(device), escaped(device));
}

}  // namespace dmchain::device
