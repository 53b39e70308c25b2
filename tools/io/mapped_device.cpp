// SPDX-License-Identifier: GPL-2.0-or-later
// See mapped_device.hpp.
#include "io/mapped_device.hpp"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <fstream>

namespace dmchain {

std::string sysfs = "/sys";

namespace {

std::optional<std::string> line_of(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    if (!in) return std::nullopt;
    std::getline(in, line);
    return line;
}

constexpr std::size_t prefix = 4, id = 32;  // characters
bool is_volume(const std::string& uuid) { return uuid.starts_with("LVM-") && uuid.size() == prefix + 2 * id; }

}  // namespace

std::string MappedDevice::volume_group() const { return is_volume(uuid) ? uuid.substr(prefix, id) : std::string(); }
std::string MappedDevice::volume() const { return is_volume(uuid) ? uuid.substr(prefix + id) : std::string(); }

std::optional<MappedDevice> mapped_device(std::uint64_t number) {
    const std::string folder = fmt::format("{}/dev/block/{}:{}/dm", sysfs, major(number), minor(number));
    std::optional<std::string> name = line_of(folder + "/name");
    if (!name) return std::nullopt;
    return MappedDevice{*name, line_of(folder + "/uuid").value_or("")};
}

}  // namespace dmchain
