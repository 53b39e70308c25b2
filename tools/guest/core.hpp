// SPDX-License-Identifier: GPL-2.0-or-later
// ELF cores of machines, as QEMU's dump-guest-memory and 'virsh dump --memory-only' make them: what is where in physical memory.
// They lack what the devices hold, so that nothing can be restored from them. Source: QEMU's dump/dump.c, elf(5).
#pragma once

#include "guest/image.hpp"

namespace dmchain::guest {

// Whether it is an ELF file, or another kind of core, of which read_core() says what is wrong.
bool is_core(const Source& source);
void read_core(Image& image, const Seen& seen, const Done& progress);

}  // namespace dmchain::guest
