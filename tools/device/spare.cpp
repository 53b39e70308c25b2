// SPDX-License-Identifier: GPL-2.0-or-later
// See spare.hpp. The order in which a device goes on in a new layer makes this certain: the target writes the owner into the new layer
// first, then the block that closes the old layer's log and names the new one, and only then anything into the new log. Commands
// that make a device put the new layer on a sealed one, and the target writes the owner before the device is there.
#include "device/spare.hpp"

#include <sys/file.h>

#include <filesystem>

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
        return !qcow2::read_owner(layer, header.cluster_bits);
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
