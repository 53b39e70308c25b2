// SPDX-License-Identifier: GPL-2.0-or-later
// Which files an image may name. Images come from strangers, and dmchain runs as root: an image must
// not be able to show its reader /etc/shadow or the host's disks as a "backing file".
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "io/file.hpp"

namespace dmchain::qcow2 {

// The configuration file: $DMCHAIN_CONF or /etc/dmchain.conf.
std::string configuration_file();
// What it allows: paths, and "none". Throws failed() for a line that is not understood.
std::vector<std::string> configured();

class Policy {
public:
    // @allowed: what the user allows: folders with what is below them, or single files, besides those of the configuration
    // file, lines "allow = /path"; "#" starts a comment. A folder in /dev counts for the
    // devices that its links lead to. "none": own() allows nothing, nor, if it is in @allowed, does the configuration file.
    // Throws failed() for a line it does not understand and for an @allowed that does not exist.
    explicit Policy(const std::vector<std::string>& allowed);

    // Allows what lies beside the image @name, which must be there: the folder of the name as given, and that of the file
    // it leads to; if that is a volume of LVM, the volumes of its group. Never "/", /dev, or for a device a folder in /dev.
    void own(const std::string& name);
    // Allows the folder and what is below it, or the file.
    void add(const std::string& path);

    bool allows(const Place& place) const;
    // The end of a sentence on @place: why it is refused, and what the user does to allow it.
    std::string refusal(const Place& place) const;

private:
    void add_links(const std::string& folder);

    bool configuration_ = true;            // its lines count
    bool none_ = false;                    // own() allows nothing
    std::vector<std::string> folders_;     // or files; absolute, symlinks resolved
    std::set<std::uint64_t> devices_;      // by number
    std::set<std::string> volume_groups_;  // by id
};

}  // namespace dmchain::qcow2
