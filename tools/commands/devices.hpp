// SPDX-License-Identifier: GPL-2.0-or-later
// What ls and status say of a device: one list of fields for both.
#pragma once

#include <vector>

#include "commands/report.hpp"
#include "device/live.hpp"

namespace dmchain::commands {

struct DeviceRow {
    dm::Device device;
    device::Live live;
};

// @standard: the fields that are shown when none are chosen.
Report<DeviceRow> device_report(const std::string& standard);
std::vector<Field<DeviceRow>> device_fields();

}  // namespace dmchain::commands
