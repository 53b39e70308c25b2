// SPDX-License-Identifier: GPL-2.0-or-later
// Layers of devices: made, and sealed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "device/live.hpp"
#include "qcow2/active.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/seal.hpp"

namespace dmchain::device {

// Refuses @path for a new layer: there is a file, or a device that holds something.
void check_layer_place(const std::string& path);

// A new layer that nothing names yet. As long as this is there it is locked, so that nobody takes it for left behind (spare.hpp):
// until a device goes on in it. Who then writes to it waits for nothing.
class NewLayer {
public:
    explicit NewLayer(const std::string& path);
    ~NewLayer();
    NewLayer(NewLayer&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    NewLayer& operator=(NewLayer&& o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }

private:
    friend NewLayer make_new_layer(const std::string& path, const qcow2::ActiveOptions& options);
    bool is_there() const;  // it was not removed before it was locked

    int fd_ = -1;  // of a block device there is none
};

// Makes the empty layer @path on top of @image, which is given as the user named it. @image's chain is @chain.
[[nodiscard]] NewLayer make_layer_on(const std::string& path, const std::string& image, const qcow2::Chain& chain);
// The same on top of the active layer of @device, which is at @active.
[[nodiscard]] NewLayer make_layer_on(const std::string& path, const Live& device, const std::string& active);

// How layers are sealed.
struct SealHow {
    bool fill = false;                 // no extended L2 entries
    std::vector<std::string> allow{};  // as in qcow2::ChainOptions
    bool assume_raw = false;
    bool take_over = false;  // also if another machine owns it
    bool dry_run = false;
};
// No device may have it active. On a terminal, with progress.
qcow2::SealResult seal_layer(const std::string& path, const SealHow& how);
// A frozen layer of a live device; tells the target.
qcow2::SealResult seal_frozen(const Live& device, const dm::OpenLayer& layer, const SealHow& how);

}  // namespace dmchain::device
