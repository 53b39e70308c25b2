// SPDX-License-Identifier: GPL-2.0-or-later
// Adds to a sealed image what other layers show in the place of what it has, so that these layers can go: in place where the image
// has a cluster of its own, else in new clusters behind its end. For chain/add.hpp.
//
// At any moment a cut leaves an image that is sound but for clusters that nobody uses: what is new is written and counted before
// an entry names it. What the image has in places that are not added to stays as it is.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/writable.hpp"
#include "qcow2/image.hpp"

namespace dmchain::qcow2 {

// Why the image cannot be added to: "has internal snapshots"; nothing: it can. @size: bytes that its disk is to have, @unit: bytes;
// what is added begins and ends at multiples of it, or at the end of the disk.
std::optional<std::string> cannot_add(const Image& image, std::uint64_t size, std::uint32_t unit);

class Adder {
public:
    struct Piece {
        std::uint64_t guest;  // byte of the disk
        std::uint64_t bytes;
        bool zero = false;
        // Data: as chain::Walk::Data has it.
        bool assembled = true;
        unsigned layer = 0;
        std::uint64_t from = 0;
    };
    struct Source {
        // Has the data of a piece written to byte @to of the image, before flush() returns.
        std::function<void(const Piece&, std::uint64_t to)> copy;
        std::function<void()> flush;
    };

    // @to: the image, to which cannot_add() had no objection.
    Adder(Writable& to, Source source);
    // The disk has so many bytes from now on; never fewer. @unit: see cannot_add().
    void prepare(std::uint64_t size, std::uint32_t unit);
    void add(const Piece& piece);  // in the order of the disk
    // What was added is durable, and nothing else.
    void flush();
    // The same, and the image has no clusters that nobody uses. Of a layer of ours: it is the snapshot with this label and id.
    void finish(const std::optional<Label>& label, const LayerId& id);
    // Gives back clusters that nobody uses. Also before anything is added, after a cut.
    void recount();

private:
    struct Block {  // of refcounts
        std::uint64_t at;
        std::vector<std::uint16_t> count;  // big-endian
        bool changed = false;
        bool fresh = false;  // the refcount table does not name it
    };
    struct Table {  // the L2 table that is at hand
        std::uint64_t number = ~std::uint64_t{0};
        std::uint64_t at = 0;
        std::vector<std::uint64_t> words;  // big-endian
        std::vector<bool> changed;         // by sector
        bool fresh = false;                // the L1 table does not name it
    };

    std::uint64_t cluster() const { return h_.cluster_size(); }
    // Of an image with subclusters: what a layer that dm-chain sealed promises to have whole; of others a subcluster.
    std::uint64_t unit() const { return std::uint64_t{1} << h_.sealed_unit_bits.value_or(h_.cluster_bits - 5); }
    void settle();
    void settle_plain(std::uint64_t* entry);
    void settle_extended(std::uint64_t* entry);
    void fill(std::uint64_t host);
    bool covers_all() const;
    std::uint64_t allocate(std::uint64_t clusters = 1);
    void count_one(std::uint64_t offset);
    Block& block_of(std::uint64_t cluster);
    void load(std::uint64_t number);
    void put_away();
    void changed(const std::uint64_t* word);
    void write_header();
    void grow(std::uint64_t size);

    Writable& to_;
    Source source_;
    File file_;
    Header h_;
    std::vector<std::uint64_t> l1_;  // big-endian
    std::uint64_t next_;             // byte of the next new cluster
    Table table_;
    std::map<std::uint64_t, Block> blocks_;                                      // by number
    std::vector<std::pair<std::uint64_t, std::vector<unsigned char>>> entries_;  // to be written when the rest is durable
    std::vector<std::uint64_t> l1_changed_;                                      // likewise, by index
    std::vector<Piece> pieces_;                                                  // of one cluster
};

}  // namespace dmchain::qcow2
