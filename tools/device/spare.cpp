// SPDX-License-Identifier: GPL-2.0-or-later
// See spare.hpp. The order in which a device goes on in a new layer makes this certain: the target writes the owner into the new layer
// first, then the block that closes the old layer's log and names the new one, and only then anything into the new log. Commands
// that make a device put the new layer on a sealed one, and the target writes the owner before the device is there. A chain file that is
// copied or built anew has another id: in the one that the owner names, layers were added on top, and merged, since then.
#include "device/spare.hpp"

#include <sys/file.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <set>

#include "chain/chain_file.hpp"
#include "chain/places.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/log.hpp"
#include "qcow2/names.hpp"
#include "qcow2/owner.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

// Whether the layer @id took over from the one at @path. Nothing: that is not there, or is sealed, and says nothing about it.
std::optional<bool> took_over(const std::string& path, const qcow2::LogId& id) {
    std::error_code none;
    if (!fs::exists(path, none)) return std::nullopt;
    const File below(path);
    if (!qcow2::has_magic(below)) return std::nullopt;
    const qcow2::Header header = qcow2::read_header(below, true);
    if (!header.in_use()) return std::nullopt;
    const qcow2::Log log(below, header.cluster_bits);
    return log.successor() && log.successor()->id == id;
}

// Whether the chain file is the owner's, and has what is @below the layer @id, but goes on in another one.
bool goes_on_without(const chain::ChainFile& chain, const qcow2::Owner& owner, const qcow2::LogId& id, const Identity& below) {
    if (!std::equal(owner.chain.begin(), owner.chain.end(), chain.super().uuid) || !chain.active()) return false;
    bool has_below = false, has_another = false;
    for (const chain_layer& l : chain.layers()) {
        // It may have another name by now.
        if (std::equal(std::begin(l.log), std::end(l.log), id.begin())) return false;
        const std::string path = chain::likely_path(chain, l);
        std::error_code none;
        if (!fs::exists(path, none)) continue;
        has_below = has_below || identity_of(path).same_file(below);
        if (&l != chain.active()) continue;
        const File active(path);
        const qcow2::Header header = qcow2::read_header(active, true);
        has_another = header.in_use() && qcow2::Log(active, header.cluster_bits).id() != id;
    }
    return has_below && has_another;
}

bool another_went_on(const File& layer, const qcow2::LogId& id, const std::string& path_of_below, const qcow2::Owner& owner) {
    std::error_code none;
    if (!fs::exists(path_of_below, none)) return false;
    const File below(path_of_below);
    for (const std::string& folder : std::set{qcow2::folder_of(layer.path()), qcow2::folder_of(below.path())})
        for (const auto& entry : fs::directory_iterator(folder, none)) {
            if (!entry.is_regular_file(none)) continue;
            const File file(entry.path().string());
            if (chain::is_chain_file(file) && goes_on_without(chain::ChainFile{File(file.path())}, owner, id, below.identity()))
                return true;
        }
    return false;
}

}  // namespace

std::optional<std::string> path_below(const File& image, const qcow2::Header& header) {
    if (!header.backing_name) return std::nullopt;
    const qcow2::NamedFile named = qcow2::parse_file_name(escaped(image.path()), *header.backing_name, header.backing_format);
    return (fs::path(image.path()).parent_path() / named.path).string();
}

bool is_spare(const File& layer, const qcow2::Header& header) {
    if (!header.in_use()) return false;
    try {
        const std::optional<std::string> below = path_below(layer, header);
        if (!below) return false;  // no command makes such a one
        const qcow2::Log log(layer, header.cluster_bits);
        if (log.position().epoch || log.successor()) return false;
        if (const auto taken = took_over(*below, log.id())) return !*taken;
        const std::optional<qcow2::Owner> owner = qcow2::read_owner(layer, header.cluster_bits);
        return !owner || another_went_on(layer, log.id(), *below, *owner);
    } catch (const Error&) {  // of what cannot be read nothing can be said
        return false;
    }
}

bool is_abandoned(const File& layer, const qcow2::Header& header) {
    if (!is_spare(layer, header)) return false;
    if (::flock(layer.fd(), LOCK_EX | LOCK_NB) != 0) return false;
    ::flock(layer.fd(), LOCK_UN);
    return true;
}

}  // namespace dmchain::device
