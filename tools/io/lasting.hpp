// SPDX-License-Identifier: GPL-2.0-or-later
// Names to be written down: in headers and chain files, where a later boot reads them. Symlinks stay, as whoever made
// them meant them to; what a boot may number differently does not.
#pragma once

#include <string>

namespace dmchain {

// @path absolute, without "." and, where that leads to the same file, without "..". Symlinks are not resolved.
std::string absolute_name(const std::string& path);

// The same; for a block device that is named by a node whose number the next boot may give to another one
// (/dev/dm-0, /dev/sda): /dev/mapper/NAME or a link of /dev/disk/by-id, if there is one.
std::string lasting_name(const std::string& path);

}  // namespace dmchain
