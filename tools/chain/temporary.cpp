// SPDX-License-Identifier: GPL-2.0-or-later
// See temporary.hpp.
#include "chain/temporary.hpp"

#include <unistd.h>

#include <filesystem>

namespace dmchain::chain {

namespace fs = std::filesystem;

std::string temporary_name(const std::string& path) { return fmt::format("{}.{}.tmp", path, ::getpid()); }

void each_temporary(const std::string& path, FunctionRef<void(const std::string&)> use) {
    const std::string prefix = fs::path(path).filename().string() + ".";
    const fs::path folder = fs::path(path).parent_path();
    std::error_code error;
    for (fs::directory_iterator at(folder.empty() ? "." : folder, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (!name.starts_with(prefix) || !name.ends_with(".tmp") || name.size() <= prefix.size() + 4) continue;
        const std::string number = name.substr(prefix.size(), name.size() - prefix.size() - 4);
        if (number.find_first_not_of("0123456789") == std::string::npos) use(at->path().string());
    }
}

}  // namespace dmchain::chain
