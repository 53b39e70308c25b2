// SPDX-License-Identifier: GPL-2.0-or-later
// Does one thing to a device-mapper device and prints the microseconds that the kernel took for it. For the benchmark of snapshots.
//
//     dmtime message NAME TEXT | suspend NAME | resume NAME
#include <fmt/format.h>

#include <chrono>

#include "dm_do.hpp"

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4) {
        fmt::print(stderr, "usage: dmtime message NAME TEXT | suspend NAME | resume NAME\n");
        return 2;
    }
    const auto took = dm_do(argv[1], argv[2], argc == 4 ? argv[3] : "");
    if (!took) return 1;
    fmt::print("{:.0f}\n", std::chrono::duration<double, std::micro>(*took).count());
    return 0;
}
