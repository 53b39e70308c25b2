// SPDX-License-Identifier: GPL-2.0-or-later
// Image::map(): from L2 entries to extents. This runs over every L2 table of every layer when an
// index is built, so the common cases (unallocated, the continuation of a run) take one compare
// for each entry, and an entry's place is checked against the metadata-free gap of its neighbour.
#include <algorithm>
#include <bit>

#include "io/text.hpp"
#include "qcow2/image.hpp"
#include "qcow2/joiner.hpp"

namespace dmchain::qcow2 {
namespace {

// L1 and L2 tables are read in pieces of this many bytes, which stay in the processor's cache.
constexpr std::uint64_t piece_bytes = 64u << 10;
constexpr std::uint64_t all_subclusters = 0xffffffff;

void read_words(const File& file, std::vector<std::uint64_t>& words, std::uint64_t bytes, std::uint64_t offset) {
    if (words.size() < bytes / 8) words.resize(bytes / 8);
    file.read(words.data(), bytes, offset);
}

}  // namespace

class Image::Walk {
public:
    Walk(const Image& image, std::uint64_t begin, std::uint64_t end, Scratch& scratch, Sink sink)
        : image_(image),
          h_(image.header_),
          begin_(begin),
          end_(end),
          scratch_(scratch),
          gap_{0, 0},
          cluster_(h_.cluster_size()),
          data_file_(image.data_file()),
          data_end_(data_file_ ? data_file_->size() : image.file_.size()),
          per_unit_(h_.extended_l2() ? static_cast<unsigned>(image.unit() / (cluster_ / subclusters)) : 1),
          reserved_(l2_reserved | (h_.version == 2 || h_.extended_l2() ? flag_zero : 0)),
          joiner_(begin, end, sink) {}

    void run() {
        const std::uint64_t span = h_.l2_span();
        const std::uint64_t l1_end = (end_ - 1) / span + 1;
        const std::uint64_t l1_piece = piece_bytes / 8;
        for (std::uint64_t i = begin_ / span; i < l1_end; i += l1_piece) {
            std::uint64_t n = std::min(l1_piece, l1_end - i);
            if (!image_.any_table(i, i + n)) continue;
            read_words(image_.file_, scratch_.l1_, n * 8, image_.l1_offset_ + i * 8);
            for (std::uint64_t k = 0; k < n; k++)
                if (scratch_.l1_[k] != 0) table(be64toh(scratch_.l1_[k]), i + k);
        }
        joiner_.flush();
    }

private:
    // What was wrong with L1 entries when the image was opened has been collected already.
    Faults* l1_faults() { return scratch_.faults.mode() == Faults::Mode::stop ? &scratch_.faults : nullptr; }

    // Whether the subclusters of each unit are alike.
    bool whole_units(std::uint64_t bits) const {
        const std::uint64_t one = (std::uint64_t{1} << per_unit_) - 1;
        for (unsigned s = 0; s < subclusters; s += per_unit_)
            if (const std::uint64_t of = bits >> s & one; of != 0 && of != one) return false;
        return true;
    }

    // The part of one L2 table that covers [begin_, end_).
    void table(std::uint64_t l1_entry, std::uint64_t l1_index) {
        std::uint64_t offset = image_.l2_offset(l1_entry, image_.l1_offset_, l1_index, l1_faults());
        if (offset == 0) return;
        const std::uint64_t guest = l1_index * h_.l2_span();
        const std::uint64_t last = std::min(h_.l2_span(), end_ - guest);
        std::uint64_t first = begin_ > guest ? (begin_ - guest) >> h_.cluster_bits : 0;
        const std::uint64_t end = (last + cluster_ - 1) >> h_.cluster_bits;
        const std::uint64_t most = piece_bytes / h_.l2_entry_bytes();
        while (first < end) {
            std::uint64_t n = std::min(most, end - first);
            table_at_ = offset + first * h_.l2_entry_bytes();
            read_words(image_.file_, scratch_.l2_, n * h_.l2_entry_bytes(), table_at_);
            std::uint64_t at = guest + (first << h_.cluster_bits);
            if (h_.extended_l2())
                extended(scratch_.l2_.data(), n, at);
            else
                standard(scratch_.l2_.data(), n, at);
            first += n;
        }
    }

    void standard(const std::uint64_t* words, std::uint64_t n, std::uint64_t guest) {
        std::uint64_t i = 0;
        while (i < n) {
            if (words[i] == 0) {
                i++;
                while (i + 8 <= n && (words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] |
                                      words[i + 6] | words[i + 7]) == 0)
                    i += 8;
                continue;
            }
            const std::uint64_t entry = be64toh(words[i]);
            const std::uint64_t at = guest + (i << h_.cluster_bits);
            if (entry & flag_compressed) {
                compressed(entry, at, i);
                i++;
                continue;
            }
            if (entry & reserved_) {
                reserved(entry, at, i);
                i++;
                continue;
            }
            const std::uint64_t host = entry & offset_mask;
            if (entry & flag_zero) {
                // A zero cluster may keep its place in the image; nothing is read from there.
                if (host == 0 || check_host(host, at, i, false)) joiner_.add(at, cluster_, Kind::zero, 0);
                i++;
                continue;
            }
            if (host == 0 && !(data_file_ && entry & flag_copied)) {  // see "Standard Cluster Descriptor", bits 9-55
                i++;
                continue;
            }
            if (!check_host(host, at, i, true)) {
                i++;
                continue;
            }
            std::uint64_t k = i + 1;
            std::uint64_t next = host + cluster_;
            const std::uint64_t limit = gap_.end;
            while (k < n && next < limit && (be64toh(words[k]) & ~flag_copied) == next) {
                next += cluster_;
                k++;
            }
            joiner_.add(at, (k - i) << h_.cluster_bits, Kind::data, host);
            i = k;
        }
    }

    void extended(const std::uint64_t* words, std::uint64_t n, std::uint64_t guest) {
        const std::uint64_t sub = cluster_ / subclusters;
        for (std::uint64_t i = 0; i < n; i++) {
            if ((words[2 * i] | words[2 * i + 1]) == 0) continue;
            const std::uint64_t entry = be64toh(words[2 * i]);
            const std::uint64_t bitmap = be64toh(words[2 * i + 1]);
            const std::uint64_t at = guest + (i << h_.cluster_bits);
            if (entry & flag_compressed) {
                if (bitmap != 0)
                    fault(at, i, "compressed bitmap", fmt::format("compressed with the subcluster bitmap {:#018x}", bitmap),
                          "bitmap 0");
                else
                    compressed(entry, at, i);
                continue;
            }
            if (entry & reserved_) {
                reserved(entry, at, i);
                continue;
            }
            const std::uint64_t host = entry & offset_mask;
            const std::uint64_t alloc = bitmap & all_subclusters;
            const std::uint64_t zero = bitmap >> 32;
            // Else the unit that the header promises would be wrong, and who relies on it would mix layers up.
            if (per_unit_ > 1 && !(whole_units(alloc) && whole_units(zero))) {
                fault(at, i, "units", fmt::format("a subcluster bitmap of {:#018x}", bitmap),
                      fmt::format("whole units of {} bytes in a layer that dm-chain sealed", image_.unit()));
                continue;
            }
            const bool allocated = host != 0 || (data_file_ && entry & flag_copied);
            if (alloc & zero) {
                fault(at, i, "both", fmt::format("a subcluster bitmap of {:#018x}", bitmap),
                      "no subcluster both allocated and zero");
                continue;
            }
            if (!allocated && alloc != 0) {
                fault(at, i, "unallocated", fmt::format("a subcluster bitmap of {:#018x}", bitmap),
                      "no allocated subclusters in an unallocated cluster");
                continue;
            }
            if (allocated && !check_host(host, at, i, alloc != 0)) continue;
            if (alloc == all_subclusters) {
                joiner_.add(at, cluster_, Kind::data, host);
                continue;
            }
            for (unsigned s = 0; s < subclusters;) {
                const bool is_data = alloc >> s & 1;
                const bool is_zero = zero >> s & 1;
                const std::uint64_t same = is_data ? alloc : is_zero ? zero : ~(alloc | zero) & all_subclusters;
                const unsigned run = static_cast<unsigned>(std::countr_one(same >> s));
                if (is_data)
                    joiner_.add(at + s * sub, run * sub, Kind::data, host + s * sub);
                else if (is_zero)
                    joiner_.add(at + s * sub, run * sub, Kind::zero, 0);
                s += run;
            }
        }
    }

    void compressed(std::uint64_t entry, std::uint64_t at, std::uint64_t i) {
        const auto [host, end] = compressed_range(entry, h_.cluster_bits);
        const std::uint64_t size = image_.file_.size();
        if (data_file_) return fault(at, i, "compressed", "a compressed cluster", "none in an image with an external data file");
        if (host >= size)
            return fault(at, i, "compressed start", fmt::format("compressed data at {:#x}", host),
                         fmt::format("it to start within the file's {} bytes", size));
        // The last sector may be cut short by the end of the file, but not more.
        if (end > ((size + 511) & ~std::uint64_t{511}))
            return fault(at, i, "compressed end", fmt::format("compressed data at {:#x} to {:#x}", host, end),
                         fmt::format("it to end within the file's {} bytes", size));
        if (host < gap_.begin || end > gap_.end) {
            const Region* r = image_.regions_.find(host);
            if (!r) {
                gap_ = image_.regions_.gap(host);
                if (end > gap_.end) r = image_.regions_.find(gap_.end);
                gap_.end = std::min(gap_.end, data_end_rounded());
            }
            if (r) return overlap(at, i, "compressed data", host, *r);
        }
        joiner_.add(at, cluster_, Kind::compressed, host, static_cast<std::uint32_t>(std::min(end, size) - host));
    }

    // A cluster at @host: aligned, outside the metadata and, if it is read, not past the end of the file.
    bool check_host(std::uint64_t host, std::uint64_t at, std::uint64_t i, bool is_read) {
        if ((host & (cluster_ - 1)) != 0) {
            fault(at, i, "alignment", fmt::format("a cluster at {:#x}", host),
                  fmt::format("a multiple of the cluster size {}", cluster_));
            return false;
        }
        if (data_file_) return check_data_file(host, at, i, is_read);
        if (host >= gap_.begin && host < gap_.end) return true;
        if (const Region* r = image_.regions_.find(host)) {
            overlap(at, i, "a cluster", host, *r);
            return false;
        }
        if (host >= data_end_) {
            outside(at, i, host);
            return false;
        }
        gap_ = image_.regions_.gap(host);
        gap_.end = std::min(gap_.end, data_end_rounded());
        return true;
    }

    bool check_data_file(std::uint64_t host, std::uint64_t at, std::uint64_t i, bool is_read) {
        if (host != at) {
            fault(at, i, "data file offset", fmt::format("a cluster at {:#x} of the external data file", host),
                  fmt::format("{:#x}, the offset in the disk", at));
            return false;
        }
        if (host >= data_end_ && is_read) {
            outside(at, i, host);
            return false;
        }
        gap_ = {0, data_end_rounded()};
        return true;
    }

    std::uint64_t data_end_rounded() const { return (data_end_ + cluster_ - 1) & ~(cluster_ - 1); }

    // @kind: a literal, the same for faults that may be one line.
    [[gnu::cold, gnu::noinline]] void fault(std::uint64_t at, std::uint64_t i, const char* kind, const std::string& found,
                                            const std::string& expected) {
        scratch_.faults.add({"disk offset", at, at + cluster_, kind},
                            "{}: L2 entry at {:#x} for disk offset {:#x} is {}, expected {}", escaped(image_.file_.path()),
                            table_at_ + i * h_.l2_entry_bytes(), at, found, expected);
    }
    [[gnu::cold, gnu::noinline]] void reserved(std::uint64_t entry, std::uint64_t at, std::uint64_t i) {
        if (h_.version == 2 && (entry & reserved_) == flag_zero)
            fault(at, i, "zero flag", fmt::format("{:#018x}", entry), "no zero flag in a version 2 image");
        else
            fault(at, i, "reserved", fmt::format("{:#018x}", entry), fmt::format("the reserved bits {:#x} to be 0", reserved_));
    }
    [[gnu::cold, gnu::noinline]] void overlap(std::uint64_t at, std::uint64_t i, const char* what, std::uint64_t host,
                                              const Region& r) {
        fault(at, i, "overlap", fmt::format("{} at {:#x}", what, host),
              fmt::format("it outside the {} at {:#x}", name_of(r.part), r.begin));
    }
    [[gnu::cold, gnu::noinline]] void outside(std::uint64_t at, std::uint64_t i, std::uint64_t host) {
        if (!data_file_)
            return fault(at, i, "outside", fmt::format("a cluster at {:#x}", host),
                         fmt::format("it to start within the file's {} bytes", data_end_));
        // QEMU reads zeroes there. So would we read what is left of a data file whose copy was cut short, and nobody would
        // notice.
        const std::string name = escaped(data_file_->path());
        fault(
            at, i, "outside the data file", fmt::format("a cluster at {:#x} of the external data file", host),
            fmt::format("it to start within the {} bytes of {}; QEMU reads zeroes there: if they are right, and the file was not "
                        "cut short, make them part of it with \"truncate -s {} {}\"",
                        data_end_, name, image_.virtual_size(), name));
    }

    const Image& image_;
    const Header& h_;
    const std::uint64_t begin_;
    const std::uint64_t end_;
    Scratch& scratch_;
    Regions::Gap gap_;  // around the last cluster: free of metadata, within the file
    const std::uint64_t cluster_;
    const File* data_file_;
    const std::uint64_t data_end_;
    const unsigned per_unit_;  // subclusters
    const std::uint64_t reserved_;
    std::uint64_t table_at_ = 0;  // offset in the image of the L2 entries at hand
    Joiner joiner_;
};

void Image::map(std::uint64_t begin, std::uint64_t end, Scratch& scratch, Sink sink) const {
    end = std::min(end, virtual_size());
    if (begin >= end) return;
    if (log_) return log_->map(begin, end, sink);
    Walk(*this, begin, end, scratch, sink).run();
}

void Image::map_vm_state(Scratch& scratch, Sink sink) const {
    if (vm_state_bytes_ == 0) return;
    // QEMU has it from the first L1 entry on that the disk does not need.
    const std::uint64_t span = header_.l2_span(), first = size_ / span + (size_ % span != 0);
    if (first >= l1_entries_ || vm_state_bytes_ > (l1_entries_ - first) * span)
        throw damaged(
            "{}: L1 table of the snapshot has {} entries, expected {} for the disk and then some for a state of {} bytes",
            escaped(file_.path()), l1_entries_, first, vm_state_bytes_);
    const std::uint64_t begin = first * span;
    const auto count = [&](const Extent& e) {
        Extent of = e;
        of.guest -= begin;
        of.bytes = std::min(of.bytes, vm_state_bytes_ - of.guest);
        sink(of);
    };
    Walk(*this, begin, begin + round_up(vm_state_bytes_), scratch, count).run();
}

}  // namespace dmchain::qcow2
