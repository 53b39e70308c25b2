// SPDX-License-Identifier: GPL-2.0-or-later
// See places.hpp.
#include "chain/places.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "chain/layers.hpp"
#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header.hpp"

#include "dm-chain-log.h"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

bool unsealed(const chain_layer& l) { return chain_le32(l.flags) & CHAIN_LAYER_UNSEALED; }

bool exists(const std::string& path) {
    std::error_code none;
    return fs::exists(path, none);
}

// Whether the file at the path where the chain file was built is another one now, or there is none.
bool was_moved(const ChainFile& file) {
    std::error_code none;
    const std::string home = file.home();
    return !home.empty() && home != file.file().name() && !fs::equivalent(home, file.file().name(), none);
}

bool was_copied(const ChainFile& file) {
    const std::uint64_t inode = chain_le64(file.super().self_inode);
    const Identity& who = file.file().identity();
    return inode && (who.block_device || inode != who.inode);
}

// What a layer is, and was not when the index was built.
class Comparison {
public:
    Comparison(const chain_layer& l, const std::string& path) : who_(identity_of(path)) {
        differs("block device (1) or file (0)", who_.block_device, l.type == CHAIN_LAYER_DEVICE);
        if (what_) return;
        if (unsealed(l))
            log(l, path);
        else
            content(l, path);
    }

    // Not the very file, but its content and time.
    bool is_copy() const { return copy_; }
    const char* what() const { return what_; }  // nullptr: nothing
    std::uint64_t found() const { return found_; }
    std::uint64_t expected() const { return expected_; }

private:
    void differs(const char* of, std::uint64_t is, std::uint64_t was) {
        if (what_ || is == was) return;
        what_ = of;
        found_ = is;
        expected_ = was;
    }

    void content(const chain_layer& l, const std::string& path) {
        // Something is added to it: it has another size, time and header.
        if (chain_le32(l.flags) & CHAIN_LAYER_GROWING) return differs("inode", who_.inode, chain_le64(l.inode));
        volume(l);
        differs("size", who_.bytes, chain_le64(l.bytes));
        if (!who_.block_device) {
            // Archives that keep whole seconds are common; and what they bring back may get its old inode again.
            const bool whole_second = !who_.mtime_nsec && l.mtime_nsec && l.head_crc;
            copy_ = who_.inode != chain_le64(l.inode) || whole_second;
            differs("time of modification", static_cast<std::uint64_t>(who_.mtime_sec), chain_le64(l.mtime_sec));
            if (!whole_second) differs("time of modification, nanoseconds", who_.mtime_nsec, chain_le32(l.mtime_nsec));
            if (copy_ && !l.head_crc) differs("inode", who_.inode, chain_le64(l.inode));
        }
        if (!what_ && (copy_ || chain_le32(l.flags) & CHAIN_LAYER_HAS_HEAD_CRC))
            differs("checksum of its beginning", head_crc(File(path)), chain_le32(l.head_crc));
    }

    // Two images of one size begin alike: what a volume begins with does not tell it from another.
    void volume(const chain_layer& l) {
        if (l.volume) differs("checksum of the id of its LVM volume", volume_of(who_), chain_le32(l.volume));
    }

    // It grows while it is written, and may have been sealed since.
    void log(const chain_layer& l, const std::string& path) {
        const std::uint64_t was = id(l.log);
        copy_ = !who_.block_device && who_.inode != chain_le64(l.inode);
        if (!was || (!copy_ && !qcow2::is_in_use(File(path)))) {
            if (copy_) differs("inode", who_.inode, chain_le64(l.inode));
            volume(l);
            return;
        }
        chain_log_head head;
        File(path).read_padded(&head, sizeof head, std::uint64_t{1} << l.cluster_shift);
        differs("id of its log", id(head.uuid), was);
        copy_ = copy_ || (l.volume && volume_of(who_) != chain_le32(l.volume));
    }

    static std::uint64_t id(const unsigned char* bytes) {
        std::uint64_t v = 0;
        std::memcpy(&v, bytes, sizeof v);
        return v;
    }

    Identity who_;
    bool copy_ = false;
    const char* what_ = nullptr;
    std::uint64_t found_ = 0, expected_ = 0;
};

// The same way from the chain file as when it was built.
std::string beside(const ChainFile& file, const std::string& recorded) {
    const fs::path way = fs::path(recorded).lexically_relative(fs::path(file.home()).parent_path());
    return (fs::path(file.file().name()).parent_path() / way).lexically_normal().string();
}

std::string choose(const ChainFile& file, const chain_layer& l, Which which) {
    const std::string recorded = file.path(l);
    if (l.type == CHAIN_LAYER_DEVICE || !was_moved(file)) return recorded;
    const std::string here = beside(file, recorded);
    if (here == recorded || !exists(here)) return recorded;
    if (!exists(recorded)) return here;
    if (identity_of(here).same_file(identity_of(recorded))) return recorded;
    if (which == Which::here) return here;
    if (which == Which::original) return recorded;
    throw failed(
        "{}: was copied from {}, and its layer may be {} or {}, which is another file: give --layers here or --layers original, "
        "or rebuild it with {}",
        escaped(file.file().name()), escaped(file.home()), escaped(here), escaped(recorded), remedy(&file.super()));
}

}  // namespace

Places find_layers(const ChainFile& file, Which which) {
    Places out;
    out.noted = !was_moved(file) && !was_copied(file);
    for (const auto& l : file.layers()) {
        const std::string path = choose(file, l, which);
        const Comparison c(l, path);
        if (c.what())
            throw failed(
                "{}: {} is {}, the chain file {} was built from {}: if the layer is right, rebuild the chain file with {}",
                escaped(path), c.what(), c.found(), escaped(file.file().path()), c.expected(), remedy(&file.super()));
        out.noted = out.noted && !c.is_copy() && path == file.path(l);
        out.paths.push_back(path);
    }
    return out;
}

std::string likely_path(const ChainFile& file, const chain_layer& layer) { return choose(file, layer, Which::here); }

void note(const ChainFile& file, const Places& places) {
    const Identity& who = file.file().identity();
    LayerTable table;
    table.records = file.layers();
    for (std::size_t i = 0; i < table.records.size(); i++) {
        chain_layer& r = table.records[i];
        if (r.type == CHAIN_LAYER_FILE) {
            const Identity is = identity_of(places.paths[i]);
            r.inode = htole64(is.inode);
            r.mtime_nsec = htole32(is.mtime_nsec);
        } else {
            r.volume = htole32(volume_of(identity_of(places.paths[i])));
        }
        table.name(r, places.paths[i]);
    }
    table.name_home(file.file().name());

    chain_super s = file.super();
    const auto bytes = table.bytes();
    const std::uint64_t at = (chain_le64(s.file_bytes) + 511) & ~std::uint64_t{511};
    if (who.block_device && at + bytes.size() > who.bytes)
        throw failed("{}: has {} bytes, expected {} to write down where its layers are: rebuild it on a larger device",
                     escaped(file.file().path()), who.bytes, at + bytes.size());
    // One that lies where it was built was only changed in what it names.
    if (chain_le64(s.self_inode) != (who.block_device ? 0 : who.inode) &&
        ::getrandom(s.uuid, sizeof s.uuid, 0) != static_cast<ssize_t>(sizeof s.uuid))
        throw failed("{}: no random bytes for its id", escaped(file.file().path()));
    s.generation = htole64(chain_le64(s.generation) + 1);
    s.layer_offset = htole64(at);
    s.string_bytes = htole32(static_cast<std::uint32_t>(table.strings.size()));
    s.layer_crc = htole32(chain_crc32c_more(0, bytes.data(), bytes.size()));
    s.file_bytes = htole64(at + bytes.size());
    s.self_inode = htole64(who.block_device ? 0 : who.inode);
    s.home_offset = htole32(table.home);
    s.home_bytes = htole16(table.home_bytes);
    s.crc = 0;
    s.crc = htole32(chain_crc32c_more(0, &s, sizeof s));

    Writable to = Writable::open(file.file().path());
    to.write(bytes.data(), bytes.size(), at);
    to.sync();
    to.write(&s, sizeof s, file.super_at() ? 0 : CHAIN_SUPER_BYTES);
    to.sync();
}

}  // namespace dmchain::chain
