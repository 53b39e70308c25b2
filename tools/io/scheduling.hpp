// SPDX-License-Identifier: GPL-2.0-or-later
// Work that nobody waits for, beside guests.
#pragma once

namespace dmchain {

// This thread and those that it starts from now on: beside the guest's they get less of the processors, but their share. Whoever
// has set a nice value for this process keeps it.
void be_gentle();

// This process and its threads from now on: only what of processors and disks nobody else wants, as far as their schedulers can.
void be_idle();

}  // namespace dmchain
