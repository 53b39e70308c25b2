// SPDX-License-Identifier: GPL-2.0-or-later
// Holds QEMU's locks of the layers of a device, which the target, in the kernel, cannot take: of the active layer as who
// writes it, of sealed ones as who reads them. For 'dmchain hold'.
//
// Of a frozen layer nothing is held, as it is about to be sealed; nor of an active one that was released, as another machine
// may have it. So the device can be removed, and its layers sealed, as without a keeper: whoever writes a layer then waits
// until the keeper has followed (qemu_lock.hpp).
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>

#include "device/live.hpp"
#include "io/file.hpp"
#include "io/qemu_lock.hpp"

namespace dmchain::device {

class Keeper {
public:
    // Takes the locks. Throws failed() if there is no such device, or another process has one of its layers open.
    explicit Keeper(const std::string& name);

    // Takes and gives up locks as layers have come, gone, and changed their state. What cannot be held is said once, and tried
    // again. Returns false if the device is gone.
    bool follow();

    std::size_t layers() const { return held_.size(); }

private:
    using Key = std::tuple<bool, std::uint64_t, std::uint64_t>;  // device or not, number, inode
    struct Lock {
        File file;
        ImageUse use;
    };

    void take(const Live& device, bool at_first);
    void complain(const std::string& text);

    const std::string name_;
    std::map<Key, Lock> held_;
    std::set<std::string> said_;
};

}  // namespace dmchain::device
