// SPDX-License-Identifier: GPL-2.0-or-later
// Addresses of the kernel's symbols, from the table that it carries. Source: Linux' kernel/kallsyms.c and scripts/kallsyms.c.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "guest/paging.hpp"
#include "guest/vmcoreinfo.hpp"

namespace dmchain::guest {

// Fills in the addresses of the names in @wanted; of those that are not there it stays 0. Throws NotUnderstood if the table is
// not sound.
void find_symbols(const VmcoreInfo& info, const Paging& paging, std::map<std::string, std::uint64_t>& wanted);

}  // namespace dmchain::guest
