// SPDX-License-Identifier: GPL-2.0-or-later
// See keeper.hpp.
#include "device/keeper.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <cstdio>
#include <optional>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace {

std::optional<ImageUse> use_of(const dm::OpenLayer& layer, bool released) {
    if (layer.state == "sealed" || layer.state == "data") return ImageUse::read;
    if (layer.state == "active" && !released) return ImageUse::write;
    return std::nullopt;
}

}  // namespace

Keeper::Keeper(const std::string& name) : name_(name) {
    ::prctl(PR_SET_NAME, keeper_process);
    take(look_at(name), true);
}

bool Keeper::follow() {
    try {
        take(look_at(name_), false);
    } catch (const Error& e) {
        // It may have been removed between two questions.
        if (!dm::exists(name_)) return false;
        complain(e.what());
    }
    return true;
}

void Keeper::take(const Live& device, bool at_first) {
    const bool released = device.status.mode == "released";
    std::map<Key, std::pair<const dm::OpenLayer*, ImageUse>> wanted;
    for (const dm::OpenLayer& l : device.layers)
        if (const auto use = use_of(l, released)) wanted.emplace(Key(l.device, l.number, l.inode), std::pair(&l, *use));
    // First what goes: somebody may wait for it.
    for (auto i = held_.begin(); i != held_.end();) {
        const auto still = wanted.find(i->first);
        i = still != wanted.end() && still->second.second == i->second.use ? std::next(i) : held_.erase(i);
    }
    allow_open_files(wanted.size());
    for (const auto& [key, want] : wanted) {
        const auto& [layer, use] = want;
        if (held_.contains(key)) continue;
        try {
            File file(name_of(*layer, name_));
            require_image_lock(file.fd(), file.path(), use);
            held_.emplace(key, Lock{std::move(file), use});
        } catch (const Error& e) {
            if (at_first && has_name(*layer)) throw;
            // One that was removed nobody else can open either.
            if (has_name(*layer)) complain(e.what());
        }
    }
}

void Keeper::complain(const std::string& text) {
    if (said_.insert(text).second) fmt::print(stderr, "dmchain: {}\n", text);
}

}  // namespace dmchain::device
