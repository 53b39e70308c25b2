// SPDX-License-Identifier: GPL-2.0-or-later
// Another backing file name for an image that nobody reads meanwhile, as 'qemu-img rebase -u' writes it, but at once: the image
// names the old file or the new one at any moment.
#pragma once

#include <string>

#include "io/writable.hpp"

namespace dmchain::qcow2 {

// Throws failed() if set_backing_name() could not give the image @path, which has a backing file, this name.
void check_backing_name(const std::string& path, const std::string& name);
// The image @to names @name as its backing file, in the same format. Durable when this returns.
void set_backing_name(Writable& to, const std::string& name);

}  // namespace dmchain::qcow2
