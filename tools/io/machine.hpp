// SPDX-License-Identifier: GPL-2.0-or-later
// Which machine this is: what an active layer says of its owner.
#pragma once

#include <string>

namespace dmchain {

// The first line of a file, without its end; "" if it cannot be read.
std::string first_line(const std::string& path);

// 32 hexadecimal digits: what the kernel module was told, otherwise /etc/machine-id. Throws failed() where there is none.
std::string machine_id();

}  // namespace dmchain
