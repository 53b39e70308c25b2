// SPDX-License-Identifier: GPL-2.0-or-later
// Who uses which cluster of an image: its metadata, its current state, its internal snapshots, its bitmaps; counted as
// the refcounts should have it (qcow2.txt: "Host cluster management", "Snapshots", "Bitmaps"). refcounts.hpp compares.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "io/function_ref.hpp"
#include "qcow2/faults.hpp"
#include "qcow2/image.hpp"

namespace dmchain::qcow2 {

class References {
public:
    // Reads all L1 and L2 tables. @faults, in collect mode, gets L1 entries with the copied flag alone, and what is wrong with entries of L2 tables that
    // Image::map() does not come to: those of other states than the one that is looked at, and those past the end
    // of the disk. An entry that is wrong counts nothing.
    References(const Image& image, Faults& faults);

    // Uses of the cluster with this number; exact up to 2^28 - 2.
    std::uint32_t count(std::uint64_t cluster) const;
    // "data", "L1 table" ...: of a cluster that is used.
    const char* what(std::uint64_t cluster) const;
    // Calls @use(cluster) for all that are used, ascending.
    void each(FunctionRef<void(std::uint64_t)> use) const;

    // An entry of an L1 or L2 table.
    struct Entry {
        bool l2;
        std::uint64_t at;  // byte in the image
        std::uint64_t value;
        std::uint64_t cluster;  // that it names, or in which its compressed stream begins
    };
    // Calls @look for all entries of the current state's tables that name a cluster of the image, but for wrong ones.
    void current_entries(FunctionRef<void(const Entry&)> look) const;

private:
    enum class Use : std::uint32_t { metadata, bitmap, data, compressed };
    struct Counter {
        std::uint32_t count : 28;
        std::uint32_t use : 4;
    };
    static constexpr std::uint32_t most = (1u << 28) - 1;
    static constexpr std::uint64_t page_clusters = 512;
    using Page = std::array<Counter, page_clusters>;  // memory follows what is used, not a sparse file's size
    static constexpr std::size_t current = ~std::size_t{0};
    struct Table {                 // an L2 table
        std::uint32_t count = 0;   // L1 entries that name it, of all states
        std::uint64_t mapped = 0;  // Image::map() checks its first so many entries
        std::size_t owner = 0;     // the first state that names it: current, or a snapshot's index
    };
    struct Wrong {
        const char* kind;  // see Faults::Spot
        std::string found;
        std::string expected;
    };

    Page* page(std::uint64_t cluster) const;                                         // nullptr: there is none
    void add(std::uint64_t begin, std::uint64_t end, std::uint32_t count, Use use);  // bytes
    // Calls @entry(at, entry) for the entries that are not 0.
    void read_table(std::uint64_t offset, std::uint64_t entries, std::uint32_t entry_bytes,
                    FunctionRef<void(std::uint64_t, std::uint64_t)> entry) const;
    // The L2 table that an L1 entry names; 0: none, or it is wrong (which opening the image reported).
    std::uint64_t l2_offset(std::uint64_t entry) const;
    std::optional<Wrong> wrong(std::uint64_t entry) const;
    // The clusters of the image that a right L2 entry names, in bytes; empty: none.
    struct Range {
        std::uint64_t begin;
        std::uint64_t end;
    };
    Range range(std::uint64_t entry) const;
    void add_snapshots(Faults& faults);
    void add_state(std::size_t owner, std::uint32_t count, std::uint64_t l1_offset, std::uint64_t l1_entries, Faults& faults);
    void add_l2(std::uint64_t offset, const Table& table, Faults& faults);
    void add_bitmaps(Faults& faults);
    void add_bitmap(std::uint32_t number, std::uint64_t offset, std::uint64_t entries, Faults& faults);

    const Image& image_;
    const Header& h_;
    const std::string name_;
    std::map<std::uint64_t, Table> tables_;                 // by offset
    std::map<std::uint64_t, std::unique_ptr<Page>> pages_;  // by number of the first cluster / page_clusters
    mutable Page* last_ = nullptr;                          // the one that was asked for last
    mutable std::uint64_t last_number_ = 0;
};

}  // namespace dmchain::qcow2
