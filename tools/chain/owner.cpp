// SPDX-License-Identifier: GPL-2.0-or-later
// See owner.hpp.
#include "chain/owner.hpp"

#include <filesystem>

#include "chain/recover.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/header.hpp"
#include "qcow2/owner.hpp"

namespace dmchain::chain {

namespace {

// The layer that took over last from @layer, as far as that can be found; @layer itself if none did.
std::string last_of(const std::string& layer) {
    qcow2::ChainOptions anywhere;
    anywhere.allow.push_back("/");  // only to look who has it
    try {
        return find_top(layer, anywhere).path;
    } catch (const Error&) {
        return layer;
    }
}

}  // namespace

void require_ours(const std::string& layer, bool take_over) {
    const std::string top = last_of(layer);
    const File file(top);
    const qcow2::Header header = qcow2::read_header(file, true);
    if (!header.in_use()) return;
    const auto owner = qcow2::read_owner(file, header.cluster_bits);
    if (!owner || !qcow2::is_foreign(*owner)) return;
    if (!take_over)
        throw failed(
            "{}: {}: 'dmchain release' it there; if that machine does not write to it any more, --take-over takes it (what that "
            "machine still writes is lost, and may destroy it)",
            escaped(top), owner->text());
    fmt::print(stderr, "dmchain: {}: taken over: {}\n", escaped(top), owner->text());
    qcow2::disown(top, header.cluster_bits);
}

}  // namespace dmchain::chain
