// SPDX-License-Identifier: GPL-2.0-or-later
// See lasting.hpp.
#include "io/lasting.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace dmchain {

namespace fs = std::filesystem;

namespace {

std::error_code none;

bool same_device(const std::string& path, dev_t number) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == number;
}

// /dev/mapper/NAME of a device-mapper device, or "".
std::string mapper_name(dev_t number) {
    std::ifstream in(fmt::format("/sys/dev/block/{}:{}/dm/name", ::major(number), ::minor(number)));
    std::string name;
    if (!std::getline(in, name)) return {};
    const std::string path = "/dev/mapper/" + name;
    return same_device(path, number) ? path : std::string();
}

// How much a link of /dev/disk/by-id says of the thing itself: what the device was born with comes first.
int rank(const std::string& link) {
    int n = 0;
    for (const char* prefix : {"wwn-", "nvme-eui.", "nvme-uuid.", "nvme-", "scsi-", "ata-", "virtio-"}) {
        if (link.starts_with(prefix)) return n;
        n++;
    }
    return n;
}

std::string by_id(dev_t number) {
    std::string best;
    for (const auto& entry : fs::directory_iterator("/dev/disk/by-id", none)) {
        const std::string link = entry.path().filename().string();
        if (!same_device(entry.path().string(), number)) continue;
        if (best.empty() || std::pair(rank(link), link) < std::pair(rank(best), best)) best = link;
    }
    return best.empty() ? best : "/dev/disk/by-id/" + best;
}

}  // namespace

std::string absolute_name(const std::string& path) {
    const fs::path whole = fs::absolute(path, none);
    const fs::path normal = whole.lexically_normal();
    // "link/.." is not the folder of the link. The file itself need not be there yet.
    if (path.find("..") == std::string::npos || fs::equivalent(whole.parent_path(), normal.parent_path(), none))
        return normal.string();
    return whole.string();
}

std::string lasting_name(const std::string& path) {
    std::string name = absolute_name(path);
    struct stat st {};
    if (::lstat(name.c_str(), &st) != 0 || !S_ISBLK(st.st_mode) || name.starts_with("/dev/mapper/")) return name;
    std::string better = mapper_name(st.st_rdev);
    if (better.empty()) better = by_id(st.st_rdev);
    return better.empty() ? name : better;
}

}  // namespace dmchain
