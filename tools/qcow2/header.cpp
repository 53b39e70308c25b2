// SPDX-License-Identifier: GPL-2.0-or-later
// See header.hpp. Limits that the format does not set are QEMU 7.2's (block/qcow2.c, qcow2_do_open).
#include "qcow2/header.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::qcow2 {
namespace {

constexpr std::uint32_t v2_header_bytes = 72;
constexpr std::uint32_t v3_header_bytes = 104;

struct Extension {
    std::uint32_t type;
    std::uint64_t at;  // of its data
    std::uint32_t bytes;
};

class HeaderReader {
public:
    HeaderReader(const File& file, bool allow_in_use, bool allow_corrupt)
        : file_(file), name_(escaped(file.path())), allow_in_use_(allow_in_use), allow_corrupt_(allow_corrupt) {
        start_.resize(4096);
        file.read_padded(start_.data(), start_.size(), 0);
    }

    Header read() {
        // A file that is something else is no damaged image.
        const Exit code = be32(at(0)) == magic ? Exit::damaged : Exit::failed;
        if (file_.size() < v2_header_bytes)
            throw Error(code, fmt::format("{}: is {} bytes long, expected at least the {} bytes of a qcow2 header", name_,
                                          file_.size(), v2_header_bytes));
        if (code == Exit::failed)
            throw failed("{}: is not a qcow2 image: magic at offset 0 is {:#010x}, expected {:#010x}", name_, be32(at(0)), magic);
        fields();
        std::uint32_t header_bytes = h_.version == 2 ? v2_header_bytes : features();
        extensions(header_bytes);
        refuse_unsupported();
        if (h_.version == 3) compression(header_bytes);
        if (h_.size >> 63) throw damaged("{}: virtual size at offset 24 is {}, expected less than 2^63", name_, h_.size);
        if (!h_.in_use()) {
            sizes();
            tables();
        }
        backing();
        return h_;
    }

private:
    const unsigned char* at(std::size_t offset) const { return start_.data() + offset; }

    void fields() {
        h_.version = be32(at(4));
        if (h_.version != 2 && h_.version != 3)
            throw failed("{}: qcow2 version at offset 4 is {}, expected 2 or 3", name_, h_.version);
        h_.cluster_bits = be32(at(20));
        if (h_.cluster_bits < min_cluster_bits || h_.cluster_bits > max_cluster_bits)
            throw damaged("{}: cluster_bits at offset 20 is {}, expected {} to {}", name_, h_.cluster_bits, min_cluster_bits,
                          max_cluster_bits);
        h_.size = be64(at(24));
        h_.l1_entries = be32(at(36));
        h_.l1_offset = be64(at(40));
        h_.refcount_table_offset = be64(at(48));
        h_.refcount_table_clusters = be32(at(56));
        h_.snapshots = be32(at(60));
        h_.snapshots_offset = be64(at(64));
    }

    // The fields of version 3; returns the header's length.
    std::uint32_t features() {
        std::uint32_t bytes = be32(at(100));
        if (bytes < v3_header_bytes || bytes > h_.cluster_size())
            throw damaged("{}: header_length at offset 100 is {}, expected {} to {}", name_, bytes, v3_header_bytes,
                          h_.cluster_size());
        if (bytes % 8 != 0) throw damaged("{}: header_length at offset 100 is {}, expected a multiple of 8", name_, bytes);
        h_.incompatible = be64(at(72));
        h_.compatible = be64(at(80));
        h_.autoclear = be64(at(88));
        h_.refcount_order = be32(at(96));
        if (h_.refcount_order > 6)
            throw damaged("{}: refcount_order at offset 96 is {}, expected at most 6", name_, h_.refcount_order);
        return bytes;
    }

    void compression(std::uint32_t bytes) {
        std::uint32_t type = bytes > 104 ? *at(104) : 0;
        bool other = h_.incompatible & incompatible_compression;
        if (type > 1) throw failed("{}: compression type at offset 104 is {}, expected 0 (zlib) or 1 (zstd)", name_, type);
        if (other != (type != 0))
            throw damaged("{}: compression type at offset 104 is {}, but incompatible feature bit 3 is {}", name_, type,
                          other ? "set" : "not set");
        h_.compression = static_cast<Compression>(type);
    }

    void read_bytes(void* to, std::size_t bytes, std::uint64_t offset) const {
        if (offset + bytes <= start_.size())
            std::memcpy(to, at(offset), bytes);
        else
            file_.read_padded(to, bytes, offset);
    }

    std::string string_at(std::uint64_t offset, std::size_t bytes) const {
        std::string s(bytes, '\0');
        read_bytes(s.data(), bytes, offset);
        return s;
    }

    void extensions(std::uint32_t header_bytes) {
        std::uint64_t backing = be64(at(8));
        std::uint64_t end = backing != 0 ? std::min(backing, h_.cluster_size()) : h_.cluster_size();
        std::uint64_t offset = header_bytes;
        while (offset + 8 <= end) {
            unsigned char head[8];
            read_bytes(head, sizeof head, offset);
            Extension e = {be32(head), offset + 8, be32(head + 4)};
            if (e.type == extension_end) {
                h_.has_extension_end = true;
                offset = e.at;
                break;
            }
            if (e.bytes > end - e.at)
                throw damaged("{}: header extension {:#010x} at offset {:#x} is {} bytes long, expected at most {}", name_,
                              e.type, offset, e.bytes, end - e.at);
            extension(e);
            offset = e.at + ((std::uint64_t{e.bytes} + 7) & ~std::uint64_t{7});
        }
        h_.extensions_end = offset;
    }

    // The name that is all of an extension, of at most @most bytes.
    std::string name_in(const Extension& e, const char* what, std::uint32_t most) {
        if (e.bytes > most)
            throw damaged("{}: name of the {} at offset {:#x} is {} bytes long, expected at most {}", name_, what, e.at, e.bytes,
                          most);
        return up_to_zeroes(string_at(e.at, e.bytes), what, e.at);
    }

    // QEMU reads names up to the first zero byte. What stands behind it, if anything does, would be a second reading.
    std::string up_to_zeroes(std::string name, const char* what, std::uint64_t place) const {
        const std::size_t end = name.find('\0');
        if (end == std::string::npos) return name;
        if (name.find_first_not_of('\0', end) != std::string::npos)
            throw damaged("{}: name of the {} at offset {:#x} is {}, expected nothing behind a zero byte", name_, what, place,
                          in_quotes(name));
        name.resize(end);
        return name;
    }

    // Of two that differ QEMU takes the last; others may take the first.
    void refuse_second(const Extension& e) {
        const auto [first, is_new] = extensions_.try_emplace(e.type, e);
        if (is_new) return;
        const std::string a = string_at(first->second.at, first->second.bytes), b = string_at(e.at, e.bytes);
        if (a == b) return;
        const bool names = e.type == extension_backing_format || e.type == extension_data_file;
        throw damaged("{}: header extension {:#010x} is there twice, at offset {:#x}{} and at {:#x}{}, expected it once", name_,
                      e.type, first->second.at - 8, names ? ": " + in_quotes(a) : "", e.at - 8,
                      names ? ": " + in_quotes(b) : ", with other contents");
    }

    void extension(const Extension& e) {
        switch (e.type) {
        case extension_backing_format:
        case extension_data_file:
        case extension_bitmaps:
        case extension_sealed:
        case extension_label: refuse_second(e); break;
        default: break;
        }
        switch (e.type) {
        case extension_encryption:
            if (be32(at(32)) == 0)
                throw damaged(
                    "{}: has the header extension {:#010x} of an encrypted image at offset {:#x}, but crypt_method at offset 32 "
                    "is 0, "
                    "expected both or none",
                    name_, e.type, e.at - 8);
            break;
        case extension_backing_format: h_.backing_format = name_in(e, "backing format", 15); break;
        case extension_data_file: h_.data_file_name = name_in(e, "data file", 4095); break;
        case extension_feature_names: feature_names_ = e; break;
        case extension_bitmaps: bitmaps(e); break;
        case extension_sealed:
            h_.has_id_room = e.bytes == 4 + sizeof(LayerId);
            if (h_.autoclear & autoclear_sealed && e.bytes >= 4) {
                unsigned char unit[4];
                read_bytes(unit, sizeof unit, e.at);
                h_.sealed_unit_bits = be32(unit);
                if (*h_.sealed_unit_bits > h_.cluster_bits || *h_.sealed_unit_bits + 5 < h_.cluster_bits ||
                    *h_.sealed_unit_bits < 9)
                    throw damaged("{}: unit of the sealed layer at offset {:#x} is {} bits, expected {} to {}", name_, e.at,
                                  *h_.sealed_unit_bits, std::max(9u, h_.cluster_bits - 5), h_.cluster_bits);
                LayerId id{};
                if (h_.has_id_room) read_bytes(id.data(), sizeof id, e.at + 4);
                if (id != LayerId{}) h_.sealed_id = id;
            }
            break;
        case extension_label: label(e); break;
        default: break;  // "can be safely ignored"
        }
    }

    // The label is the end of the extension. Whoever rewrites the header may have moved it to where it lies in two sectors of
    // the disk.
    void label(const Extension& e) {
        if (e.bytes < label_sector) return;
        const std::uint64_t place = e.at + e.bytes - label_sector;
        unsigned char sector[label_sector];
        read_bytes(sector, sizeof sector, place);
        if (place % label_sector == 0) h_.label_at = place;
        h_.label = parse_label(sector);
    }

    void bitmaps(const Extension& e) {
        if (!(h_.autoclear & autoclear_bitmaps)) return;  // not to be trusted: a writer did not know them
        if (e.bytes != 24)
            throw damaged("{}: bitmaps extension at offset {:#x} is {} bytes long, expected 24", name_, e.at, e.bytes);
        unsigned char data[24];
        read_bytes(data, sizeof data, e.at);
        h_.bitmaps = be32(data);
        h_.bitmap_directory_bytes = be64(data + 8);
        h_.bitmap_directory_offset = be64(data + 16);
        check_aligned("bitmap directory", e.at + 16, h_.bitmap_directory_offset);
        if (h_.bitmap_directory_bytes > 64u << 20)
            throw damaged("{}: size of the bitmap directory at offset {} is {}, expected at most {}", name_, e.at + 8,
                          h_.bitmap_directory_bytes, 64u << 20);
        check_in_file("bitmap directory", h_.bitmap_directory_offset, h_.bitmap_directory_bytes);
    }

    // The name that the image itself gives an incompatible feature, or "".
    std::string feature_name(unsigned bit) const {
        for (std::uint64_t i = 0; i + 48 <= feature_names_.bytes; i += 48) {
            std::string entry = string_at(feature_names_.at + i, 48);
            if (entry[0] != 0 || static_cast<unsigned char>(entry[1]) != bit) continue;
            std::string name = entry.substr(2);
            return name.substr(0, name.find('\0'));
        }
        return {};
    }

    // An active layer has no other feature.
    void in_use() const {
        if (!allow_in_use_)
            throw failed(
                "{}: is in use by dm-chain, or was left by it: 'dmchain seal' makes a plain qcow2 image of it, "
                "'dmchain recover' goes on with it",
                name_);
        if (h_.incompatible != incompatible_in_use || h_.snapshots != 0 || be32(at(32)) != 0)
            throw damaged(
                "{}: incompatible features at offset 72 are {:#x} with {} internal snapshots and crypt_method {}, "
                "expected a layer of dm-chain to have only bit 63",
                name_, h_.incompatible, h_.snapshots, be32(at(32)));
    }

    void refuse_unsupported() const {
        if (h_.in_use() && !(h_.incompatible & ~(incompatible_known | incompatible_in_use))) return in_use();
        std::uint64_t unknown = h_.incompatible & ~incompatible_known;
        std::string list;
        for (unsigned bit = 0; bit < 64; bit++) {
            if (!(unknown >> bit & 1)) continue;
            std::string name = feature_name(bit);
            list += fmt::format("{}bit {}{}", list.empty() ? "" : ", ", bit,
                                name.empty() ? std::string(" (unnamed)") : " (" + in_quotes(name) + ")");
        }
        if (!list.empty()) throw failed("{}: uses incompatible features that are not supported: {}", name_, list);
        if (h_.corrupt() && !allow_corrupt_) throw marked_corrupt(file_);
        std::uint32_t crypt = be32(at(32));
        if (crypt != 0)
            throw failed("{}: is encrypted ({}), which is not supported; make a plain copy with \"qemu-img convert\"", name_,
                         crypt == 1   ? std::string("AES")
                         : crypt == 2 ? std::string("LUKS")
                                      : fmt::format("crypt_method {}", crypt));
        if (h_.extended_l2() && h_.cluster_bits < 14)
            throw damaged("{}: cluster_bits at offset 20 is {}, expected at least 14 with extended L2 entries", name_,
                          h_.cluster_bits);
        if (h_.data_file_raw() && !h_.has_data_file())
            throw damaged("{}: autoclear feature bit 1 (raw external data) is set, but the image has no external data file",
                          name_);
        if (h_.has_data_file() && h_.snapshots != 0)
            throw damaged("{}: has {} internal snapshots, expected none beside an external data file", name_, h_.snapshots);
    }

    void check_aligned(const char* what, std::uint64_t field, std::uint64_t offset) const {
        if (offset % h_.cluster_size() != 0 || offset == 0)
            throw damaged("{}: offset of the {} at offset {} is {:#x}, expected a multiple of the cluster size {}{}", name_, what,
                          field, offset, h_.cluster_size(), offset == 0 ? ", not 0" : "");
    }

    void check_in_file(const char* what, std::uint64_t offset, std::uint64_t bytes) const {
        if (offset > file_.size() || bytes > file_.size() - offset)
            throw damaged("{}: {} at {:#x} is {} bytes long, expected to end within the file's {} bytes", name_, what, offset,
                          bytes, file_.size());
    }

    void sizes() const {
        std::uint64_t need = h_.size / h_.l2_span() + (h_.size % h_.l2_span() != 0);
        if (h_.l1_entries * std::uint64_t{8} > max_l1_bytes)
            throw damaged("{}: L1 entries at offset 36 are {}, expected at most {}", name_, h_.l1_entries, max_l1_bytes / 8);
        if (h_.l1_entries < need)
            throw damaged("{}: L1 entries at offset 36 are {}, expected at least {} for a disk of {} bytes", name_, h_.l1_entries,
                          need, h_.size);
    }

    void tables() const {
        if (h_.l1_entries != 0) {
            check_aligned("L1 table", 40, h_.l1_offset);
            check_in_file("L1 table", h_.l1_offset, h_.l1_entries * std::uint64_t{8});
        }
        if (!h_.dirty() && h_.refcount_table_clusters == 0)
            throw damaged("{}: clusters of the refcount table at offset 56 are 0, expected at least 1", name_);
        if (h_.refcount_table_clusters * h_.cluster_size() > max_refcount_table_bytes)
            throw damaged("{}: clusters of the refcount table at offset 56 are {}, expected at most {}", name_,
                          h_.refcount_table_clusters, max_refcount_table_bytes >> h_.cluster_bits);
        if (!h_.dirty()) {
            check_aligned("refcount table", 48, h_.refcount_table_offset);
            check_in_file("refcount table", h_.refcount_table_offset, h_.refcount_table_clusters * h_.cluster_size());
        }
        if (h_.snapshots > max_snapshots)
            throw damaged("{}: number of snapshots at offset 60 is {}, expected at most {}", name_, h_.snapshots, max_snapshots);
        if (h_.snapshots != 0) check_aligned("snapshot table", 64, h_.snapshots_offset);
    }

    void backing() {
        std::uint64_t offset = be64(at(8));
        std::uint32_t bytes = be32(at(16));
        if (offset == 0 || bytes == 0) return;
        if (offset > h_.cluster_size() || bytes > h_.cluster_size() - offset || bytes > max_backing_name)
            throw damaged("{}: name of the backing file at {:#x} is {} bytes long, expected at most {} within the first cluster",
                          name_, offset, bytes, max_backing_name);
        check_in_file("name of the backing file", offset, bytes);
        const std::string name = up_to_zeroes(string_at(offset, bytes), "backing file", offset);
        if (name.empty()) return;
        h_.backing_name = name;
        if (h_.data_file_raw())
            throw damaged("{}: has the backing file {}, expected none beside a raw external data file", name_,
                          in_quotes(*h_.backing_name));
    }

    const File& file_;
    std::string name_;
    bool allow_in_use_;
    bool allow_corrupt_;
    std::vector<unsigned char> start_;
    Header h_;
    std::map<std::uint32_t, Extension> extensions_;  // the first of each type that counts, by type
    Extension feature_names_{};
};

}  // namespace

bool has_magic(const File& file) {
    unsigned char head[4];
    file.read_padded(head, sizeof head, 0);
    return be32(head) == magic;
}

Header read_header(const File& file, bool allow_in_use, bool allow_corrupt) {
    return HeaderReader(file, allow_in_use, allow_corrupt).read();
}

Error marked_corrupt(const File& file) {
    return damaged("{}: is marked corrupt (incompatible feature bit 1); repair it with \"qemu-img check -r all\" first",
                   escaped(file.path()));
}

bool is_in_use(const File& file) {
    unsigned char head[80];
    file.read_padded(head, sizeof head, 0);
    return be32(head) == magic && be32(head + 4) == 3 && be64(head + 72) & incompatible_in_use;
}

}  // namespace dmchain::qcow2
