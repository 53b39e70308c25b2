// SPDX-License-Identifier: GPL-2.0-or-later
// One qcow2 image, opened for reading: its header, where its metadata lies, and what it says of each
// range of the virtual disk. chain.hpp opens images; the index builder and the checker ask them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/file.hpp"
#include "io/function_ref.hpp"
#include "qcow2/extent.hpp"
#include "qcow2/faults.hpp"
#include "qcow2/header.hpp"
#include "qcow2/joiner.hpp"
#include "qcow2/log.hpp"
#include "qcow2/regions.hpp"
#include "qcow2/snapshots.hpp"

namespace dmchain::qcow2 {

// What one thread needs for map(): buffers, kept from call to call; at most 192 KiB. Not shared
// between threads. Faults that map() finds go to `faults`: thrown, unless told to collect.
class Scratch {
public:
    explicit Scratch(Faults::Mode mode = Faults::Mode::stop) : faults(mode) {}
    Faults faults;

private:
    friend class Image;
    std::vector<std::uint64_t> l1_;
    std::vector<std::uint64_t> l2_;
};

// Everything is const after construction, so one Image may be mapped by many threads.
class Image {
public:
    // @header is what read_header(file) returned. @data_file: the external data file, if the header has
    // one. @snapshot: id or name of an internal snapshot to look at instead of the current state.
    // Reads and checks the active L1 table, the snapshots' and the refcount table; of a layer in use the log.
    Image(File file, Header header, std::optional<File> data_file, const std::optional<std::string>& snapshot, Faults& faults);

    const File& file() const { return file_; }
    const Header& header() const { return header_; }
    const File* data_file() const { return data_file_ ? &*data_file_ : nullptr; }
    const std::vector<Snapshot>& snapshots() const { return snapshots_; }
    const Regions& regions() const { return regions_; }
    const Log* log() const { return log_ ? &*log_ : nullptr; }  // of a layer in use

    // Bytes, a multiple of 512: QEMU ignores what is left of the header's size.
    std::uint64_t virtual_size() const { return size_ & ~std::uint64_t{511}; }
    // Smallest piece of the virtual disk that the image maps by itself: cluster or subcluster, bytes; of a layer of ours
    // the unit, which may be several subclusters.
    std::uint32_t unit() const {
        if (log_) return 1u << log_->unit_bits();
        if (header_.extended_l2() && header_.sealed_unit_bits) return 1u << *header_.sealed_unit_bits;
        return static_cast<std::uint32_t>(header_.cluster_size() / (header_.extended_l2() ? subclusters : 1));
    }
    std::uint64_t l1_offset() const { return l1_offset_; }  // of the state that is looked at
    std::uint64_t l2_tables() const { return l2_tables_; }  // of the current state

    // Calls @sink for every range in [begin, end) that the image defines, ascending, clipped to
    // [begin, end) and to the virtual size; neighbours that continue each other are one extent, except
    // compressed clusters, which come one by one. @begin and @end: bytes, multiples of 512. Reads only what
    // of the L1 and L2 tables covers the range; cheap for any range, cheapest when it is a multiple of
    // header().l2_span(). Every entry is checked; faults go to @scratch.faults, and in collect mode a
    // faulty entry is then left out.
    void map(std::uint64_t begin, std::uint64_t end, Scratch& scratch, Sink sink) const;

    // The state of a running machine that the internal snapshot has: its length, 0 if it has none, and where it lies, in extents
    // whose `guest` counts from its start. It is stored past the end of the disk (qcow2.txt, "Snapshots").
    std::uint64_t vm_state_bytes() const { return vm_state_bytes_; }
    void map_vm_state(Scratch& scratch, Sink sink) const;

private:
    class Walk;

    void add_tables(const SnapshotTable& table, Faults& faults);
    void add_l1(Part part, std::uint64_t offset, std::uint32_t entries, Faults& faults);
    void add_refcounts(Faults& faults);
    // Whether any of the L1 entries [first, last) names a table.
    bool any_table(std::uint64_t first, std::uint64_t last) const;
    // Offset of the L2 table that L1 entry @entry names; 0 if none or wrong, which is reported, if there are @faults.
    std::uint64_t l2_offset(std::uint64_t entry, std::uint64_t l1_offset, std::uint64_t index, Faults* faults) const;
    std::uint64_t round_up(std::uint64_t bytes) const {
        return (bytes + header_.cluster_size() - 1) & ~(header_.cluster_size() - 1);
    }

    File file_;
    Header header_;
    std::optional<File> data_file_;
    std::vector<Snapshot> snapshots_;
    Regions regions_;
    std::optional<Log> log_;
    // The state that is looked at: the header's, or a snapshot's.
    std::uint64_t size_;
    std::uint64_t l1_offset_;
    std::uint32_t l1_entries_;
    std::uint64_t vm_state_bytes_ = 0;
    std::uint64_t l2_tables_ = 0;
    // A bit for each L1 entry: whether it is other than 0. A chain of a thousand layers is built in thousands of steps, in most
    // of which most layers have nothing: they are passed over without reading. Empty: not known.
    std::vector<bool> l1_used_;
};

}  // namespace dmchain::qcow2
