// SPDX-License-Identifier: GPL-2.0-or-later
// Work that nobody waits for, beside guests.
#pragma once

namespace dmchain {

// This process and its threads from now on: only what of processors and disks nobody else wants, as far as their schedulers can.
void be_idle();

}  // namespace dmchain
