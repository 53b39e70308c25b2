// SPDX-License-Identifier: GPL-2.0-or-later
// Sealing the frozen layers of a live device: one process at a time, and so that it goes on when the command that
// asked for it has ended.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "device/layer.hpp"

namespace dmchain::device {

// Whose turn it is to seal layers of the device @name, or to remove it: waits until no other process has it, and keeps
// it as long as this object lives.
class SealingTurn {
public:
    explicit SealingTurn(const std::string& name);
    // Does not wait: nothing if another process has it.
    static std::optional<SealingTurn> if_free(const std::string& name);
    SealingTurn(SealingTurn&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    SealingTurn& operator=(SealingTurn&&) = delete;
    ~SealingTurn();
    SealingTurn(const SealingTurn&) = delete;
    SealingTurn& operator=(const SealingTurn&) = delete;

private:
    explicit SealingTurn(int fd) : fd_(fd) {}
    int fd_;
};

// Seals all frozen layers of the device @name, base first, and calls @report for each.
void seal_all_frozen(const std::string& name, const SealHow& how,
                     const std::function<void(const std::string& path, const qcow2::SealResult&)>& report);

// The same for @device, as it was before a snapshot, in a process of its own that does not end with this one, its session,
// or the systemd unit it belongs to. What goes wrong there is in the system's log; the next snapshot, boot or 'dmchain
// seal NAME' makes up for it.
void seal_in_background(const Live& device, const SealHow& how);

}  // namespace dmchain::device
