// SPDX-License-Identifier: GPL-2.0-or-later
// See subject.hpp.
#include "device/subject.hpp"

#include <algorithm>
#include <filesystem>

#include "io/lasting.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

bool is_device(const std::string& what) {
    if (what.empty() || what.find('/') != std::string::npos) return false;
    const std::vector<dm::Device> all = dm::list_if_any();
    return std::any_of(all.begin(), all.end(), [&](const dm::Device& d) { return d.name == what; });
}

// The topmost image: data files stand behind theirs.
const dm::OpenLayer& topmost(const Live& device) {
    for (std::size_t i = device.layers.size(); i-- > 0;)
        if (device.layers[i].state != "data") return device.layers[i];
    throw failed("{}: the device has no layer", escaped(device.name));
}

Subject of_device(Live device) {
    Subject out;
    out.name = device.name;
    out.top = name_of(topmost(device), device.name);
    out.device = std::move(device);
    return out;
}

}  // namespace

qcow2::Chain Subject::open(qcow2::ChainOptions options) const {
    options.in_use = true;
    if (device) {
        const std::vector<std::string> own = allow();
        options.allow.insert(options.allow.end(), own.begin(), own.end());
        options.force_share = true;
    }
    return qcow2::Chain(top, options);
}

std::vector<std::string> Subject::allow() const {
    std::vector<std::string> out;
    for (const dm::OpenLayer& l : device ? device->layers : std::vector<dm::OpenLayer>{}) {
        const std::string found = find_name(l), path = found.empty() ? l.path : found;
        out.push_back(l.device ? path : fs::path(path).parent_path().string());
    }
    return out;
}

void Subject::sync() const {
    if (device && device->active()) dm::message(device->name, "commit");
}

Subject subject(const std::string& what, bool anywhere) {
    if (is_device(what)) return of_device(look_at(what));
    std::error_code none;
    std::string path = what;
    if (what.starts_with("/dev/mapper/") && is_device(what.substr(12))) return of_device(look_at(what.substr(12)));
    if (!fs::exists(path, none)) {
        if (what.find('/') == std::string::npos) throw failed("{}: there is no such device, and no such file", escaped(what));
        throw failed("{}: there is no such file", escaped(what));
    }
    if (const auto use = user_of(identity_of(path))) {
        if (use->layer.state == "chain" || use->layer.id == topmost(use->device).id) return of_device(use->device);
        if (!anywhere)
            throw failed("{}: the device {} has it below other layers: name the device, and this layer as a snapshot of it",
                         escaped(what), escaped(use->device.name));
    }
    Subject out;
    out.name = what;
    out.top = absolute_name(path);
    return out;
}

At split_at(const std::string& text) {
    const std::size_t at = text.rfind('@');
    std::error_code none;
    if (at == std::string::npos || at == 0 || is_device(text) || fs::exists(text, none)) return {text, std::nullopt};
    return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace dmchain::device
