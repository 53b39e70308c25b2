// SPDX-License-Identifier: GPL-2.0-or-later
// What gc and snapshots do for a store of replicate, "dir:DIR[,DIR...]" or "rados:POOL[,POOL...]".
#pragma once

#include <string>
#include <vector>

namespace dmchain::commands {

// Whether @what is a store, and no folder or device.
bool is_store(const std::string& what);

struct StoreGarbage {
    std::string store;
    std::vector<std::string> forget;  // snapshots that go
    bool dry_run = false;
    bool json = false;
};
void gc_store(const StoreGarbage& o);

}  // namespace dmchain::commands
