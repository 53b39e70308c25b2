// SPDX-License-Identifier: GPL-2.0-or-later
// See scheduling.hpp.
#include "io/scheduling.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dmchain {

void be_gentle() {
    static constexpr int nice_value = 5;
    if (::getpriority(PRIO_PROCESS, 0) == 0) (void)::setpriority(PRIO_PROCESS, 0, nice_value);
}

void be_idle() {
    // Not a nice value: whoever is woken has the processor at once from a thread of this kind, and not at the end of its turn.
    static constexpr int idle_class = 3, class_shift = 13, who_process = 1;  // linux/ioprio.h
    const sched_param none{};
    (void)::sched_setscheduler(0, SCHED_IDLE, &none);
    (void)::syscall(SYS_ioprio_set, who_process, 0, idle_class << class_shift);
}

}  // namespace dmchain
