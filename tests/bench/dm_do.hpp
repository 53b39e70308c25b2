// SPDX-License-Identifier: GPL-2.0-or-later
// Does one thing to a device-mapper device in the process itself: without the start of a program that dmsetup's time has in it.
#pragma once

#include <libdevmapper.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

// @what: "message" with the text @message, "suspend" or "resume". Returns how long the kernel took for it; nothing if it failed, or
// is none of these.
inline std::optional<std::chrono::steady_clock::duration> dm_do(const std::string& what, const std::string& name,
                                                                const std::string& message) {
    const int type = what == "message"   ? DM_DEVICE_TARGET_MSG
                     : what == "suspend" ? DM_DEVICE_SUSPEND
                     : what == "resume"  ? DM_DEVICE_RESUME
                                         : -1;
    if (type < 0 || message.empty() == (what == "message")) return {};
    const std::unique_ptr<dm_task, void (*)(dm_task*)> task(dm_task_create(type), dm_task_destroy);
    if (!task || !dm_task_set_name(task.get(), name.c_str())) return {};
    if (!message.empty() && (!dm_task_set_sector(task.get(), 0) || !dm_task_set_message(task.get(), message.c_str()))) return {};
    char version[32];
    if (!dm_driver_version(version, sizeof version)) return {};  // the control device is open from here on
    const auto start = std::chrono::steady_clock::now();
    if (!dm_task_run(task.get())) return {};
    return std::chrono::steady_clock::now() - start;
}
