// SPDX-License-Identifier: GPL-2.0-or-later
// Does one thing to a device-mapper device and prints the microseconds that the kernel took for it, without the start of a
// program that dmsetup's time has in it. For the benchmark of snapshots.
//
//     dmtime message NAME TEXT | suspend NAME | resume NAME
#include <fmt/format.h>
#include <libdevmapper.h>

#include <chrono>
#include <memory>
#include <string>

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    const int type = what == "message" && argc == 4   ? DM_DEVICE_TARGET_MSG
                     : what == "suspend" && argc == 3 ? DM_DEVICE_SUSPEND
                     : what == "resume" && argc == 3  ? DM_DEVICE_RESUME
                                                      : -1;
    if (type < 0) {
        fmt::print(stderr, "usage: dmtime message NAME TEXT | suspend NAME | resume NAME\n");
        return 2;
    }
    const std::unique_ptr<dm_task, void (*)(dm_task*)> task(dm_task_create(type), dm_task_destroy);
    if (!task || !dm_task_set_name(task.get(), argv[2])) return 1;
    if (argc == 4 && (!dm_task_set_sector(task.get(), 0) || !dm_task_set_message(task.get(), argv[3]))) return 1;
    char version[32];
    if (!dm_driver_version(version, sizeof version)) return 1;  // the control device is open from here on
    const auto start = std::chrono::steady_clock::now();
    const bool done = dm_task_run(task.get());
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    if (!done) return 1;
    fmt::print("{:.0f}\n", took.count());
    return 0;
}
