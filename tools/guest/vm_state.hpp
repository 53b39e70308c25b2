// SPDX-License-Identifier: GPL-2.0-or-later
// The state of a machine that QEMU's savevm has stored in a qcow2 image: a migration stream, past the end of the snapshot's disk.
#pragma once

#include <optional>
#include <string>

#include "guest/source.hpp"

namespace dmchain::guest {

// @image: a qcow2 image. @snapshot: its id or name; without it the only one that has such a state. Throws failed() if there is
// none.
Source open_vm_state(File image, const std::optional<std::string>& snapshot);

}  // namespace dmchain::guest
