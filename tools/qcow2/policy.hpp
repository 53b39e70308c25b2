// SPDX-License-Identifier: GPL-2.0-or-later
// Which files an image may name. Images come from strangers, and dmchain runs as root: an image must
// not be able to show its reader /etc/shadow or the host's disks as a "backing file".
#pragma once

#include <string>
#include <vector>

namespace dmchain::qcow2 {

class Policy {
public:
    // @allowed: folders (or single files) the user allows, besides those in the configuration file:
    // $DMCHAIN_CONF or /etc/dmchain.conf, lines "allow = /path"; "#" starts a comment. Throws failed() for a
    // line it does not understand and for an @allowed that does not exist.
    explicit Policy(const std::vector<std::string>& allowed);

    // Also allows @folder, an absolute path without symlinks: the folder of the image on top.
    void allow(const std::string& folder) { folders_.push_back(folder); }

    // @path: absolute, symlinks resolved.
    bool allows(const std::string& path) const;

private:
    std::vector<std::string> folders_;  // absolute, symlinks resolved
};

}  // namespace dmchain::qcow2
