// SPDX-License-Identifier: GPL-2.0-or-later
// See policy.hpp.
#include "qcow2/policy.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/error.hpp"
#include "io/mapped_device.hpp"
#include "io/text.hpp"
#include "qcow2/names.hpp"

namespace dmchain::qcow2 {

namespace fs = std::filesystem;

namespace {

constexpr const char* none = "none";

std::string trimmed(const std::string& s) {
    std::size_t first = s.find_first_not_of(" \t\r");
    if (first == std::string::npos) return {};
    return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

std::string volume_group_of(const Place& place) {
    const auto mapped = place.device() ? mapped_device(place.device()) : std::nullopt;
    return mapped ? mapped->volume_group() : std::string();
}

bool is_within(const std::string& path, const std::string& folder) {
    if (folder == "/") return path.starts_with('/');
    return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

}  // namespace

std::string configuration_file() {
    const char* named = std::getenv("DMCHAIN_CONF");
    return named ? named : "/etc/dmchain.conf";
}

std::vector<std::string> configured() {
    const std::string path = configuration_file();
    std::vector<std::string> allowed;
    std::ifstream in(path);
    if (!in) {
        if (errno == ENOENT && !std::getenv("DMCHAIN_CONF")) return allowed;
        throw failed("{}: cannot read the configuration: {}", escaped(path), std::strerror(errno));
    }
    std::string line;
    for (int number = 1; std::getline(in, line); number++) {
        line = trimmed(line.substr(0, line.find('#')));
        if (line.empty()) continue;
        std::size_t equals = line.find('=');
        std::string key = trimmed(line.substr(0, equals));
        std::string value = equals == std::string::npos ? std::string() : trimmed(line.substr(equals + 1));
        if (key != "allow" || !(value == none || value.starts_with('/')))
            throw failed("{}: line {} is {}, expected \"allow = /path\" or \"allow = none\"", escaped(path), number,
                         in_quotes(line));
        allowed.push_back(value);
    }
    return allowed;
}

Policy::Policy(const std::vector<std::string>& allowed) {
    const auto is_none = [](const std::string& a) { return a == none; };
    configuration_ = std::none_of(allowed.begin(), allowed.end(), is_none);
    none_ = !configuration_;
    for (const std::string& path : configured()) {
        if (!configuration_) break;
        try {
            if (is_none(path))
                none_ = true;
            else
                add(path);
        } catch (const Error&) {}  // what does not exist allows nothing
    }
    // Commands name the folder of each layer.
    for (const std::string& path : std::set<std::string>(allowed.begin(), allowed.end()))
        if (!is_none(path)) add(path);
}

void Policy::add(const std::string& path) {
    const Place place(path);
    if (place.device()) devices_.insert(place.device());
    folders_.push_back(place.path());
    if (is_within(place.path(), "/dev")) add_links(place.path());
}

// What the system's links in a folder of /dev lead to is as good as what lies there. Not what anybody might have put there.
void Policy::add_links(const std::string& folder) {
    struct stat st {};
    if (::stat(folder.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH)) return;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        std::error_code none_there;
        if (at->is_symlink(none_there)) {
            if (::stat(at->path().c_str(), &st) == 0 && S_ISBLK(st.st_mode)) devices_.insert(st.st_rdev);
        } else if (at->is_directory(none_there)) {
            add_links(at->path().string());
        }
    }
}

void Policy::own(const std::string& name) {
    if (none_) return;
    const Place place(name);
    for (const std::string& folder : {Place(folder_of(name)).path(), folder_of(place.path())})
        if (folder != "/" && folder != "/dev" && !(place.device() && is_within(folder, "/dev"))) folders_.push_back(folder);
    if (const std::string group = volume_group_of(place); !group.empty()) volume_groups_.insert(group);
}

bool Policy::allows(const Place& place) const {
    for (const std::string& folder : folders_)
        if (is_within(place.path(), folder)) return true;
    if (!place.device()) return false;
    return devices_.contains(place.device()) || volume_groups_.contains(volume_group_of(place));
}

std::string Policy::refusal(const Place& place) const {
    std::string what = folder_of(place.path());
    if (none_ || place.device() || what == "/" || is_within(what, "/dev")) what = place.path();
    // What the system numbers may be another device tomorrow.
    if (const auto mapped = mapped_device(place.device())) what = "/dev/mapper/" + mapped->name;
    std::string text =
        fmt::format("{}; if you trust it, use \"--allow {}\"",
                    none_ ? "may not be named (\"allow none\")" : "is outside the folder of the image on top", escaped(what));
    // A line cannot say every name.
    if (configuration_ && escaped(what) == what && what.find('#') == std::string::npos && trimmed(what) == what)
        text += fmt::format(", or the line \"allow = {}\" in {}", what, escaped(configuration_file()));
    return text;
}

}  // namespace dmchain::qcow2
