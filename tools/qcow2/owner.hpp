// SPDX-License-Identifier: GPL-2.0-or-later
// Which machine may write a layer that is not sealed: struct chain_log_owner of include/dm-chain-log.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "io/file.hpp"

namespace dmchain::qcow2 {

struct Owner {
    bool sound = true;                      // false: what stands there cannot be read
    bool released = false;                  // whoever comes next may have it
    std::string machine;                    // 32 hexadecimal digits, as in /etc/machine-id
    std::string boot;                       // the same, of the boot; zeroes: not known
    std::string host;                       // its name
    std::string device;                     // name of its device-mapper device
    std::array<unsigned char, 16> chain{};  // uuid of its chain file
    std::int64_t time = 0;                  // since when, seconds since 1970, UTC

    // "the machine HOST (ID, boot ID) has it since TIME, as the device NAME"
    std::string text() const;
};

// nullopt: nobody, as in layers that no device has used yet. @cluster_bits: of its header.
std::optional<Owner> read_owner(const File& layer, std::uint32_t cluster_bits);

// Whether the owner is another machine than this one, and has not released the layer. Throws failed() if this machine has no id.
bool is_foreign(const Owner& owner);

// Makes the layer nobody's, durably. Its owner must not write it any more.
void disown(const std::string& layer, std::uint32_t cluster_bits);

}  // namespace dmchain::qcow2
