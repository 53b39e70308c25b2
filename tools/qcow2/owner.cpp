// SPDX-License-Identifier: GPL-2.0-or-later
// See owner.hpp.
#include "qcow2/owner.hpp"

#include <fmt/chrono.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <vector>

#include "io/crc32c.hpp"
#include "io/machine.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"

#include "dm-chain-log.h"

namespace dmchain::qcow2 {

namespace {

std::string hex(const unsigned char (&id)[16]) {
    std::string out;
    for (const unsigned char c : id) out += fmt::format("{:02x}", c);
    return out;
}

}  // namespace

std::string Owner::text() const {
    if (!sound) return "what it says of its owner is damaged";
    return fmt::format("the machine {} ({}, boot {}) has it since {:%Y-%m-%dT%H:%M:%SZ}, as the device {}", escaped(host),
                       machine, boot, fmt::gmtime(time), escaped(device));
}

std::optional<Owner> read_owner(const File& layer, std::uint32_t cluster_bits) {
    chain_log_head head;
    layer.read_padded(&head, sizeof head, std::uint64_t{1} << cluster_bits);
    const chain_log_owner& o = head.owner;
    if (chain_log_owner_none(&o)) return std::nullopt;
    Owner out;
    out.sound = chain_log_owner_sound(&o);
    if (!out.sound) return out;
    out.released = o.state == CHAIN_LAYER_RELEASED;
    out.machine = hex(o.machine);
    out.boot = hex(o.boot);
    out.host = reinterpret_cast<const char*>(o.host);
    out.device = reinterpret_cast<const char*>(o.device);
    std::copy(std::begin(o.chain), std::end(o.chain), out.chain.begin());
    out.time = static_cast<std::int64_t>(chain_le64(o.time));
    return out;
}

bool is_foreign(const Owner& owner) { return !owner.sound || (!owner.released && owner.machine != machine_id()); }

void disown(const std::string& layer, std::uint32_t cluster_bits) {
    const std::uint64_t at = (std::uint64_t{1} << cluster_bits);
    Writable to = Writable::open(layer);
    // The whole block: a device may have sectors of 4096 bytes.
    chain_log_head head;
    File(layer).read(&head, sizeof head, at);
    head.owner = {};
    to.write(&head, sizeof head, at);
    to.sync();
}

}  // namespace dmchain::qcow2
