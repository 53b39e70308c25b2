// SPDX-License-Identifier: GPL-2.0-or-later
// See snapshots.hpp; the layout is qcow2.txt, "Snapshots".
#include "qcow2/snapshots.hpp"

#include "io/text.hpp"

namespace dmchain::qcow2 {

SnapshotTable read_snapshots(const File& file, const Header& header, Faults& faults) {
    constexpr std::uint64_t max_table_bytes = std::uint64_t{1024} * max_snapshots;
    constexpr std::uint32_t max_extra_bytes = 1024;
    SnapshotTable table;
    const std::string name = escaped(file.path());
    std::uint64_t offset = header.snapshots_offset;
    for (std::uint32_t i = 0; i < header.snapshots; i++) {
        unsigned char head[40];
        unsigned char extra[16] = {};
        if (offset > file.size() || file.size() - offset < sizeof head) {
            faults.add("{}: snapshot {} of {} at {:#x} is outside the file, expected it within the file's {} bytes", name, i + 1,
                       header.snapshots, offset, file.size());
            break;
        }
        file.read(head, sizeof head, offset);
        std::uint32_t id_bytes = be16(head + 12);
        std::uint32_t name_bytes = be16(head + 14);
        std::uint32_t extra_bytes = be32(head + 36);
        if (extra_bytes > max_extra_bytes) {
            faults.add("{}: snapshot {} at {:#x} has {} bytes of extra data, expected at most {}", name, i + 1, offset,
                       extra_bytes, max_extra_bytes);
            break;
        }
        std::uint64_t bytes = sizeof head + extra_bytes + id_bytes + name_bytes;
        if (bytes > file.size() - offset || offset + bytes - header.snapshots_offset > max_table_bytes) {
            faults.add("{}: snapshot {} at {:#x} is {} bytes long, expected it within the file's {} bytes and the table's {}",
                       name, i + 1, offset, bytes, file.size(), max_table_bytes);
            break;
        }
        file.read(extra, std::min<std::size_t>(sizeof extra, extra_bytes), offset + sizeof head);
        Snapshot s;
        s.l1_offset = be64(head);
        s.l1_entries = be32(head + 8);
        s.size = extra_bytes >= sizeof extra ? be64(extra + 8) : header.size;
        s.vm_state_bytes = extra_bytes >= 8 ? be64(extra) : be32(head + 32);
        s.id.resize(id_bytes);
        s.name.resize(name_bytes);
        file.read(s.id.data(), id_bytes, offset + sizeof head + extra_bytes);
        file.read(s.name.data(), name_bytes, offset + sizeof head + extra_bytes + id_bytes);

        std::uint64_t l1_bytes = std::uint64_t{s.l1_entries} * 8;
        std::uint64_t need = s.size / header.l2_span() + (s.size % header.l2_span() != 0);
        if (s.l1_offset % header.cluster_size() != 0 || s.l1_offset == 0) {
            faults.add("{}: L1 table of snapshot {} is at {:#x}, expected a multiple of the cluster size {}, not 0", name,
                       in_quotes(s.name), s.l1_offset, header.cluster_size());
        } else if (l1_bytes > max_l1_bytes || s.l1_offset > file.size() || l1_bytes > file.size() - s.l1_offset) {
            faults.add("{}: L1 table of snapshot {} at {:#x} is {} bytes long, expected at most {} within the file's {} bytes",
                       name, in_quotes(s.name), s.l1_offset, l1_bytes, max_l1_bytes, file.size());
        } else if (s.size >> 63 || s.l1_entries < need) {
            faults.add("{}: L1 table of snapshot {} has {} entries, expected at least {} for a disk of {} bytes", name,
                       in_quotes(s.name), s.l1_entries, need, s.size);
        } else {
            table.snapshots.push_back(std::move(s));
        }
        offset += (bytes + 7) & ~std::uint64_t{7};
    }
    table.bytes = offset > header.snapshots_offset ? offset - header.snapshots_offset : 0;
    return table;
}

}  // namespace dmchain::qcow2
