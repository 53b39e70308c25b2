// SPDX-License-Identifier: GPL-2.0-or-later
// Pieces in fewer bytes: zstd, one frame for each.
#pragma once

#include <cstddef>
#include <vector>

namespace dmchain::replica {

// Empty: it would save less than a page of 4096 bytes.
std::vector<unsigned char> compressed(const std::vector<unsigned char>& data);
// Whether @from was a frame of @bytes, which are in @to then.
bool decompress(const std::vector<unsigned char>& from, std::size_t bytes, std::vector<unsigned char>& to);

}  // namespace dmchain::replica
