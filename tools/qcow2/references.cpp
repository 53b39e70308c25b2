// SPDX-License-Identifier: GPL-2.0-or-later
// See references.hpp.
#include "qcow2/references.hpp"

#include <algorithm>
#include <vector>

#include "io/text.hpp"

namespace dmchain::qcow2 {
namespace {

// Tables are read in pieces of this many 64-bit words.
constexpr std::uint64_t piece = 8192;

}  // namespace

References::References(const Image& image, Faults& faults)
    : image_(image), h_(image.header()), name_(escaped(image.file().path())) {
    for (const Region& r : image_.regions().all())
        if (r.part != Part::l2_table && r.part != Part::snapshot_l1 && r.part != Part::snapshot_l2)
            add(r.begin, r.end, 1, Use::metadata);
    add_state(current, 1, h_.l1_offset, h_.l1_entries, faults);
    add_snapshots(faults);
    for (const auto& [offset, table] : tables_) add_l2(offset, table, faults);
    if (h_.bitmaps != 0) add_bitmaps(faults);
}

References::Page* References::page(std::uint64_t cluster) const {
    const std::uint64_t number = cluster / page_clusters;
    if (!last_ || number != last_number_) {
        const auto found = pages_.find(number);
        last_ = found == pages_.end() ? nullptr : found->second.get();
        last_number_ = number;
    }
    return last_;
}

std::uint32_t References::count(std::uint64_t cluster) const {
    const Page* p = page(cluster);
    return p ? (*p)[cluster % page_clusters].count : 0;
}

const char* References::what(std::uint64_t cluster) const {
    switch (static_cast<Use>((*page(cluster))[cluster % page_clusters].use)) {
    case Use::data: return "data";
    case Use::compressed: return "compressed data";
    case Use::bitmap: return "bitmap";
    case Use::metadata: break;
    }
    const Region* r = image_.regions().find(cluster << h_.cluster_bits);
    return r ? name_of(r->part) : "metadata";
}

void References::each(FunctionRef<void(std::uint64_t)> use) const {
    for (const auto& [number, page] : pages_)
        for (std::uint64_t i = 0; i < page_clusters; i++)
            if ((*page)[i].count != 0) use(number * page_clusters + i);
}

void References::current_entries(FunctionRef<void(const Entry&)> look) const {
    read_table(h_.l1_offset, h_.l1_entries, 8, [&](std::uint64_t at, std::uint64_t entry) {
        if (const std::uint64_t l2 = l2_offset(entry)) look({false, at, entry, l2 >> h_.cluster_bits});
    });
    for (const auto& [offset, table] : tables_) {
        if (table.owner != current) continue;
        read_table(offset, h_.l2_entries(), h_.l2_entry_bytes(), [&](std::uint64_t at, std::uint64_t entry) {
            if (wrong(entry)) return;
            const Range r = range(entry);
            if (r.begin != r.end) look({true, at, entry, r.begin >> h_.cluster_bits});
        });
    }
}

void References::add(std::uint64_t begin, std::uint64_t end, std::uint32_t count, Use use) {
    if (begin == end) return;
    for (std::uint64_t c = begin >> h_.cluster_bits; c <= (end - 1) >> h_.cluster_bits; c++) {
        Page* p = page(c);
        if (!p) {
            last_ = p = (pages_[c / page_clusters] = std::make_unique<Page>()).get();
        }
        Counter& counter = (*p)[c % page_clusters];
        counter.count = std::min(most, counter.count + std::min(most, count)) & most;
        counter.use = static_cast<std::uint32_t>(use) & 15;
    }
}

void References::read_table(std::uint64_t offset, std::uint64_t entries, std::uint32_t entry_bytes,
                            FunctionRef<void(std::uint64_t, std::uint64_t)> entry) const {
    const std::uint64_t words = entry_bytes / 8;
    std::vector<std::uint64_t> buffer(std::min(piece, entries * words));
    for (std::uint64_t i = 0; i < entries; i += piece / words) {
        const std::uint64_t n = std::min(piece / words, entries - i);
        image_.file().read(buffer.data(), n * entry_bytes, offset + i * entry_bytes);
        for (std::uint64_t k = 0; k < n; k++)
            if (buffer[k * words] != 0) entry(offset + (i + k) * entry_bytes, be64toh(buffer[k * words]));
    }
}

std::uint64_t References::l2_offset(std::uint64_t entry) const {
    const std::uint64_t offset = entry & offset_mask;
    const std::uint64_t size = image_.file().size();
    if (entry & l1_reserved || offset % h_.cluster_size() != 0) return 0;
    return offset < size && h_.cluster_size() <= size - offset ? offset : 0;
}

References::Range References::range(std::uint64_t entry) const {
    if (image_.data_file()) return {0, 0};
    if (entry & flag_compressed) {
        const CompressedRange c = compressed_range(entry, h_.cluster_bits);
        return {c.begin, c.end};
    }
    const std::uint64_t host = entry & offset_mask;
    return {host, host == 0 ? 0 : host + h_.cluster_size()};
}

std::optional<References::Wrong> References::wrong(std::uint64_t entry) const {
    const std::uint64_t reserved = l2_reserved | (h_.version == 2 || h_.extended_l2() ? flag_zero : 0);
    if (!(entry & flag_compressed) && entry & reserved)
        return Wrong{"reserved bits", fmt::format("{:#018x}", entry), fmt::format("the reserved bits {:#x} to be 0", reserved)};
    const Range r = range(entry);
    if (r.begin == r.end) return {};
    const char* what = entry & flag_compressed ? "compressed data" : "a cluster";
    if (!(entry & flag_compressed) && r.begin % h_.cluster_size() != 0)
        return Wrong{"alignment", fmt::format("a cluster at {:#x}", r.begin),
                     fmt::format("a multiple of the cluster size {}", h_.cluster_size())};
    if (r.begin >= image_.file().size())
        return Wrong{"outside", fmt::format("{} at {:#x}", what, r.begin),
                     fmt::format("it to start within the file's {} bytes", image_.file().size())};
    const Region* first = image_.regions().find(r.begin);
    if (!first) first = image_.regions().find(r.end - 1);
    if (first)
        return Wrong{"overlap", fmt::format("{} at {:#x}", what, r.begin),
                     fmt::format("it outside the {} at {:#x}", name_of(first->part), first->begin)};
    return {};
}

void References::add_snapshots(Faults& faults) {
    // Snapshots may share an L1 table: it is read once.
    struct Sharing {
        std::size_t first;
        std::uint32_t count;
    };
    std::map<std::pair<std::uint64_t, std::uint32_t>, Sharing> tables;
    for (std::size_t i = 0; i < image_.snapshots().size(); i++) {
        const Snapshot& s = image_.snapshots()[i];
        tables.try_emplace({s.l1_offset, s.l1_entries}, Sharing{i, 0}).first->second.count++;
    }
    std::uint64_t all = 0;
    for (const auto& [l1, sharing] : tables) {
        const std::uint64_t bytes = l1.second * std::uint64_t{8};
        all += bytes;
        if (all > max_snapshot_l1_bytes) return;  // which opening the image reported
        add(l1.first, l1.first + bytes, sharing.count, Use::metadata);
        add_state(sharing.first, sharing.count, l1.first, l1.second, faults);
    }
}

void References::add_state(std::size_t owner, std::uint32_t count, std::uint64_t l1_offset, std::uint64_t l1_entries,
                           Faults& faults) {
    const bool looked_at = l1_offset == image_.l1_offset();
    read_table(l1_offset, l1_entries, 8, [&](std::uint64_t at, std::uint64_t entry) {
        const std::uint64_t l2 = l2_offset(entry);
        // Readers see no table there; qemu-img check takes the header for one.
        if (entry == flag_copied)
            faults.add({"the entry at", at, at + 8},
                       "{}: L1 entry {} at {:#x} has the copied flag, expected none, as it names no table", name_,
                       (at - l1_offset) / 8, at);
        if (l2 == 0) return;
        const auto [place, is_new] = tables_.try_emplace(l2);
        Table& t = place->second;
        if (is_new) t.owner = owner;
        t.count = std::min(most, t.count + count);
        const std::uint64_t guest = (at - l1_offset) / 8 * h_.l2_span();
        if (!looked_at || guest >= image_.virtual_size()) return;
        const std::uint64_t bytes = std::min(h_.l2_span(), image_.virtual_size() - guest);
        t.mapped = std::max(t.mapped, (bytes + h_.cluster_size() - 1) >> h_.cluster_bits);
    });
}

void References::add_l2(std::uint64_t offset, const Table& table, Faults& faults) {
    add(offset, offset + h_.cluster_size(), table.count, Use::metadata);
    read_table(offset, h_.l2_entries(), h_.l2_entry_bytes(), [&](std::uint64_t at, std::uint64_t entry) {
        const std::optional<Wrong> w = wrong(entry);
        if (!w) {
            const Range r = range(entry);
            add(r.begin, r.end, table.count, entry & flag_compressed ? Use::compressed : Use::data);
        } else if ((at - offset) / h_.l2_entry_bytes() >= table.mapped) {
            faults.add(
                {"the entry at", at, at + h_.l2_entry_bytes(), w->kind}, "{}: L2 entry at {:#x} of {} is {}, expected {}", name_,
                at, table.owner == current ? "the current state" : "snapshot " + in_quotes(image_.snapshots()[table.owner].name),
                w->found, w->expected);
        }
    });
}

void References::add_bitmaps(Faults& faults) {
    std::vector<unsigned char> directory(h_.bitmap_directory_bytes);
    image_.file().read(directory.data(), directory.size(), h_.bitmap_directory_offset);
    std::uint64_t at = 0, all = 0;
    for (std::uint32_t i = 0; i < h_.bitmaps; i++) {
        constexpr std::uint64_t head = 24;
        const unsigned char* p = directory.data() + at;
        if (directory.size() - at < head) {
            faults.add("{}: bitmap directory at {:#x} ends before bitmap {} of {}, expected all of them within its {} bytes",
                       name_, h_.bitmap_directory_offset, i + 1, h_.bitmaps, directory.size());
            return;
        }
        const std::uint64_t bytes = (head + be32(p + 20) + be16(p + 18) + 7) & ~std::uint64_t{7};
        // Many that lie one over the other would take for ever.
        all += be32(p + 8) * std::uint64_t{8};
        if (all > image_.file().size()) {
            faults.add("{}: tables of the bitmaps are {} bytes long or more, expected them within the file's {} bytes", name_,
                       all, image_.file().size());
            return;
        }
        add_bitmap(i + 1, be64(p), be32(p + 8), faults);
        at = std::min<std::uint64_t>(at + bytes, directory.size());
    }
}

void References::add_bitmap(std::uint32_t number, std::uint64_t offset, std::uint64_t entries, Faults& faults) {
    const std::uint64_t size = image_.file().size();
    if (offset % h_.cluster_size() != 0 || offset >= size || entries > (size - offset) / 8) {
        faults.add("{}: table of bitmap {} is at {:#x} with {} entries, expected it aligned and within the file's {} bytes",
                   name_, number, offset, entries, size);
        return;
    }
    add(offset, offset + entries * 8, 1, Use::bitmap);
    read_table(offset, entries, 8, [&](std::uint64_t at, std::uint64_t entry) {
        const std::uint64_t cluster = entry & offset_mask;
        if (cluster == 0) return;
        if (cluster % h_.cluster_size() != 0 || cluster >= size)
            faults.add(
                {"the entry at", at, at + 8},
                "{}: entry at {:#x} of bitmap {} is a cluster at {:#x}, expected it aligned and within the file's {} bytes",
                name_, at, number, cluster, size);
        else
            add(cluster, cluster + h_.cluster_size(), 1, Use::bitmap);
    });
}

}  // namespace dmchain::qcow2
