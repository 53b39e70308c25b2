// SPDX-License-Identifier: GPL-2.0-or-later
// See policy.hpp.
#include "qcow2/policy.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "io/error.hpp"
#include "io/file.hpp"
#include "io/text.hpp"

namespace dmchain::qcow2 {
namespace {

constexpr const char* default_configuration = "/etc/dmchain.conf";

std::string trimmed(const std::string& s) {
    std::size_t first = s.find_first_not_of(" \t\r");
    if (first == std::string::npos) return {};
    return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

// Folders of the configuration file; one that does not exist allows nothing.
std::vector<std::string> configured() {
    const char* named = std::getenv("DMCHAIN_CONF");
    const std::string path = named ? named : default_configuration;
    std::vector<std::string> folders;
    std::ifstream in(path);
    if (!in) {
        if (errno == ENOENT && !named) return folders;
        throw failed("{}: cannot read the configuration: {}", escaped(path), std::strerror(errno));
    }
    std::string line;
    for (int number = 1; std::getline(in, line); number++) {
        line = trimmed(line.substr(0, line.find('#')));
        if (line.empty()) continue;
        std::size_t equals = line.find('=');
        std::string key = trimmed(line.substr(0, equals));
        std::string value = equals == std::string::npos ? std::string() : trimmed(line.substr(equals + 1));
        if (key != "allow" || !value.starts_with('/'))
            throw failed("{}: line {} is {}, expected \"allow = /path\"", escaped(path), number, in_quotes(line));
        folders.push_back(value);
    }
    return folders;
}

bool is_within(const std::string& path, const std::string& folder) {
    if (folder == "/") return path.starts_with('/');
    return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

}  // namespace

Policy::Policy(const std::vector<std::string>& allowed) {
    for (const std::string& folder : configured()) {
        try {
            folders_.push_back(Place(folder).path());
        } catch (const Error&) {}
    }
    for (const std::string& folder : allowed) folders_.push_back(Place(folder).path());
}

bool Policy::allows(const std::string& path) const {
    for (const std::string& folder : folders_)
        if (is_within(path, folder)) return true;
    return false;
}

}  // namespace dmchain::qcow2
