// SPDX-License-Identifier: GPL-2.0-or-later
// What sysfs says of a device-mapper device. It needs neither the control device nor privileges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dmchain {

struct MappedDevice {
    std::string name;  // of /dev/mapper/NAME, which outlives the number of /dev/dm-N
    std::string uuid;  // may be empty

    // The id of the LVM volume group, if this is one of its volumes ("LVM-", then the ids of group and volume, 32
    // characters each); otherwise "". LVM's own inner devices, whose uuid has a suffix, are none.
    std::string volume_group() const;
    // The same of the volume itself. It outlives the volume's name.
    std::string volume() const;
};

// Of the block device with this number (st_rdev); nothing if it is no device-mapper device.
std::optional<MappedDevice> mapped_device(std::uint64_t number);

// Where sysfs is. For tests.
extern std::string sysfs;

}  // namespace dmchain
