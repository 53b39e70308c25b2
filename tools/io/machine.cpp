// SPDX-License-Identifier: GPL-2.0-or-later
// See machine.hpp.
#include "io/machine.hpp"

#include <fstream>

#include "io/error.hpp"

namespace dmchain {

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

std::string machine_id() {
    for (const char* path : {"/sys/module/dm_chain/parameters/machine_id", "/etc/machine-id"}) {
        const std::string id = first_line(path);
        if (id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string::npos &&
            id.find_first_not_of('0') != std::string::npos)
            return id;
    }
    throw failed("/etc/machine-id: has no id of this machine: run 'systemd-machine-id-setup'");
}

}  // namespace dmchain
