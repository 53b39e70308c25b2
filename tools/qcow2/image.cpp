// SPDX-License-Identifier: GPL-2.0-or-later
// Opening an image: see image.hpp. The walk through its L2 tables is in walk.cpp.
#include "qcow2/image.hpp"

#include <algorithm>
#include <set>

#include "io/text.hpp"

namespace dmchain::qcow2 {
namespace {

// Tables are read in pieces of this many 64-bit words.
constexpr std::uint64_t piece = 8192;

const Snapshot& choose(const std::vector<Snapshot>& all, const std::string& wanted, const std::string& path) {
    for (const Snapshot& s : all)
        if (s.id == wanted) return s;
    for (const Snapshot& s : all)
        if (s.name == wanted) return s;
    std::string list;
    for (const Snapshot& s : all) list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", escaped(s.id), in_quotes(s.name));
    throw failed("{}: has no internal snapshot with the id or name {}; it has {}", escaped(path), in_quotes(wanted),
                 list.empty() ? "none" : list);
}

}  // namespace

Image::Image(File file, Header header, std::optional<File> data_file, const std::optional<std::string>& snapshot, Faults& faults)
    : file_(std::move(file)),
      header_(std::move(header)),
      data_file_(std::move(data_file)),
      size_(header_.size),
      l1_offset_(header_.l1_offset),
      l1_entries_(header_.l1_entries) {
    if (header_.in_use()) {
        if (snapshot) choose(snapshots_, *snapshot, file_.path());
        log_.emplace(file_, header_.cluster_bits);
        size_ = log_->size();
        return;
    }
    SnapshotTable table = read_snapshots(file_, header_, faults);
    add_tables(table, faults);
    snapshots_ = std::move(table.snapshots);
    if (snapshot) {
        const Snapshot& s = choose(snapshots_, *snapshot, file_.path());
        size_ = s.size;
        l1_offset_ = s.l1_offset;
        l1_entries_ = s.l1_entries;
        vm_state_bytes_ = s.vm_state_bytes;
        l1_used_.clear();  // is of the header's
    }
}

bool Image::any_table(std::uint64_t first, std::uint64_t last) const {
    if (l1_used_.empty()) return true;
    const auto end = l1_used_.begin() + static_cast<std::ptrdiff_t>(last);
    return std::find(l1_used_.begin() + static_cast<std::ptrdiff_t>(first), end, true) != end;
}

void Image::add_tables(const SnapshotTable& table, Faults& faults) {
    regions_.add(Part::header, 0, header_.cluster_size());
    if (header_.l1_entries != 0)
        regions_.add(Part::l1_table, header_.l1_offset, round_up(header_.l1_offset + header_.l1_entries * std::uint64_t{8}));
    regions_.add(Part::snapshot_table, header_.snapshots_offset, round_up(header_.snapshots_offset + table.bytes));
    if (header_.bitmaps != 0)
        regions_.add(Part::bitmap_directory, header_.bitmap_directory_offset,
                     round_up(header_.bitmap_directory_offset + header_.bitmap_directory_bytes));
    // A dirty image says itself that its refcounts are not to be relied on.
    if (!header_.dirty()) add_refcounts(faults);

    std::set<std::pair<std::uint64_t, std::uint32_t>> done;
    std::uint64_t l1_bytes = 0;
    for (const Snapshot& s : table.snapshots) {
        if (!done.insert({s.l1_offset, s.l1_entries}).second) continue;
        l1_bytes += std::uint64_t{s.l1_entries} * 8;
        if (l1_bytes > max_snapshot_l1_bytes) {
            faults.add("{}: L1 tables of the internal snapshots are {} bytes long or more, expected at most {}",
                       escaped(file_.path()), l1_bytes, max_snapshot_l1_bytes);
            break;
        }
        regions_.add(Part::snapshot_l1, s.l1_offset, round_up(s.l1_offset + s.l1_entries * std::uint64_t{8}));
        add_l1(Part::snapshot_l2, s.l1_offset, s.l1_entries, faults);
    }
    add_l1(Part::l2_table, header_.l1_offset, header_.l1_entries, faults);

    for (const Regions::Overlap& o : regions_.settle())
        faults.add({"the one at", o.b.begin, o.b.end},
                   "{}: {} at {:#x} overlaps the {} at {:#x}, expected metadata to be disjoint", escaped(file_.path()),
                   name_of(o.b.part), o.b.begin, name_of(o.a.part), o.a.begin);
}

std::uint64_t Image::l2_offset(std::uint64_t entry, std::uint64_t l1_offset, std::uint64_t index, Faults* faults) const {
    std::uint64_t offset = entry & offset_mask;
    std::uint64_t at = l1_offset + index * 8;
    const Faults::Spot spot{"the entry at", at, at + 8};
    if (entry & l1_reserved) {
        if (faults)
            faults->add(spot, "{}: L1 entry {} at {:#x} is {:#018x}, expected the reserved bits {:#x} to be 0",
                        escaped(file_.path()), index, at, entry, l1_reserved);
        return 0;
    }
    if (offset == 0) return 0;
    if (offset % header_.cluster_size() != 0) {
        if (faults)
            faults->add(spot, "{}: L2 table of L1 entry {} at {:#x} is at {:#x}, expected a multiple of the cluster size {}",
                        escaped(file_.path()), index, at, offset, header_.cluster_size());
        return 0;
    }
    if (offset >= file_.size() || header_.cluster_size() > file_.size() - offset) {
        if (faults)
            faults->add(spot, "{}: L2 table of L1 entry {} at {:#x} is at {:#x}, expected it within the file's {} bytes",
                        escaped(file_.path()), index, at, offset, file_.size());
        return 0;
    }
    return offset;
}

void Image::add_l1(Part part, std::uint64_t offset, std::uint32_t entries, Faults& faults) {
    std::vector<std::uint64_t> buffer(std::min<std::uint64_t>(piece, entries));
    if (part == Part::l2_table) l1_used_.resize(entries);
    for (std::uint64_t i = 0; i < entries; i += piece) {
        std::uint64_t n = std::min(piece, entries - i);
        file_.read(buffer.data(), n * 8, offset + i * 8);
        for (std::uint64_t k = 0; k < n; k++) {
            if (buffer[k] == 0) continue;
            if (part == Part::l2_table) l1_used_[i + k] = true;
            std::uint64_t l2 = l2_offset(be64toh(buffer[k]), offset, i + k, &faults);
            if (l2 == 0) continue;
            if (part == Part::l2_table) l2_tables_++;
            regions_.add(part, l2, l2 + header_.cluster_size());
        }
    }
}

void Image::add_refcounts(Faults& faults) {
    const std::uint64_t bytes = header_.refcount_table_clusters * header_.cluster_size();
    regions_.add(Part::refcount_table, header_.refcount_table_offset, header_.refcount_table_offset + bytes);
    std::vector<std::uint64_t> buffer(std::min(piece, bytes / 8));
    for (std::uint64_t i = 0; i < bytes / 8; i += piece) {
        std::uint64_t n = std::min(piece, bytes / 8 - i);
        file_.read(buffer.data(), n * 8, header_.refcount_table_offset + i * 8);
        for (std::uint64_t k = 0; k < n; k++) {
            if (buffer[k] == 0) continue;
            std::uint64_t offset = be64toh(buffer[k]);
            std::uint64_t at = header_.refcount_table_offset + (i + k) * 8;
            const Faults::Spot spot{"the entry at", at, at + 8};
            if (offset % header_.cluster_size() != 0)
                faults.add(spot, "{}: refcount block {} at {:#x} is at {:#x}, expected a multiple of the cluster size {}",
                           escaped(file_.path()), i + k, at, offset, header_.cluster_size());
            else if (offset >= file_.size())
                faults.add(spot, "{}: refcount block {} at {:#x} is at {:#x}, expected it within the file's {} bytes",
                           escaped(file_.path()), i + k, at, offset, file_.size());
            else
                regions_.add(Part::refcount_block, offset, offset + header_.cluster_size());
        }
    }
}

}  // namespace dmchain::qcow2
