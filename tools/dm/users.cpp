// SPDX-License-Identifier: GPL-2.0-or-later
#include "dm/users.hpp"

#include <libdevmapper.h>

#include "dm/device.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::dm {

namespace {

Error in_use(const Device& d) {
    return failed("{}: the device is open {}: unmount it or stop who uses it first", escaped(d.name),
                  counted(static_cast<std::uint64_t>(d.open_count), "time"));
}

}  // namespace

void require_unused(const std::string& name) {
    if (const Device d = find(name); d.open_count) throw in_use(d);
}

void remove_unused(const std::string& name) {
    const Device before = find(name);
    if (dm_device_has_holders(before.major, before.minor) || dm_device_has_mounted_fs(before.major, before.minor))
        throw in_use(before);
    try {
        remove(name);
    } catch (const Error&) {
        if (exists(name)) require_unused(name);
        throw;
    }
}

}  // namespace dmchain::dm
