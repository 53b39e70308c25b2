// SPDX-License-Identifier: GPL-2.0-or-later
// What a command works on: a device, or the image on top of a chain that no device has; both are given by one argument.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/live.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::device {

struct Subject {
    std::string name;            // as messages call it: the device's name, or the path as the user gave it
    std::optional<Live> device;  // if there is one: it has the chain open, and may write to its active layer
    std::string top;             // the image on top: of a device its active layer, or the topmost one

    // Opens all of the chain. What the device has it may have: allow() is allowed, and that somebody holds the layers for the
    // device is no reason to refuse them. @options.in_use is set.
    // Of a device with an active layer that layer is as its log was when this looked; what the device has not committed yet
    // is not in it: sync() first.
    qcow2::Chain open(qcow2::ChainOptions options = {}) const;
    // Folders of the device's layers, and those that are devices themselves.
    std::vector<std::string> allow() const;
    // Makes durable, and visible to open(), what was written to the device up to now.
    void sync() const;
};

// @what: the name of a device, or a path. A path that a device has as its topmost or active layer, or as its chain file, means
// that device. Throws failed() if there is neither; and for a layer that a device has further down, if not @anywhere.
Subject subject(const std::string& what, bool anywhere = false);

// "NAME@SNAPSHOT", "TOP@SNAPSHOT": split at the last "@", unless all of it is a device or a file.
struct At {
    std::string what;
    std::optional<std::string> snapshot;
};
At split_at(const std::string& text);

}  // namespace dmchain::device
