// SPDX-License-Identifier: GPL-2.0-or-later
// A copy of a whole file, with its holes and its time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace dmchain {

// Makes @to, which must not exist, a copy of @from; durable, but for its name. @rate: bytes a second, at the most; 0: as fast as it
// goes. @progress: bytes of the file that are done. Returns false if @stop said so.
bool copy_file(const std::string& from, const std::string& to, std::uint64_t rate, const std::function<bool()>& stop,
               const std::function<void(std::uint64_t)>& progress);

}  // namespace dmchain
