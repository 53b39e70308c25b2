// SPDX-License-Identifier: GPL-2.0-or-later
// The log of a layer that is active, or frozen and not sealed yet: what it says of the layer's content, and
// where it ends. include/dm-chain-log.h and docs/format.md have the format. image.hpp maps by it; seal, recover and
// create go on from it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/file.hpp"
#include "qcow2/header.hpp"
#include "qcow2/joiner.hpp"

namespace dmchain::qcow2 {

using LogId = LayerId;

class Log {
public:
    // What the layer says of a cluster: chain_log_record in this machine's byte order.
    struct Cluster {
        std::uint64_t cluster;  // number, in the virtual disk
        std::uint64_t host;     // bytes in the layer; 0: nothing is stored
        std::uint64_t bitmap;   // bit i: unit i is stored; bit 32 + i: unit i reads zeroes
    };
    struct Segment {
        std::uint64_t offset;  // bytes in the layer
        std::uint64_t bytes;
    };
    // Where the log goes on.
    struct Position {
        Segment segment;
        std::uint64_t next;      // bytes in the layer; the segment's end: there is no room left
        std::uint64_t sequence;  // of the block to come
        std::uint32_t epoch;     // of the block before; 0: there is none
    };
    // Who took over.
    struct Successor {
        LogId id;
        std::string path;  // absolute
    };

    // Reads the whole log of @file, whose header has the cluster size 1 << @cluster_bits. Its memory follows the
    // clusters that the layer has, not the log's length. Throws damaged() for what contradicts the format; where
    // no valid block follows is just the end.
    Log(const File& file, std::uint32_t cluster_bits);

    const LogId& id() const { return id_; }
    std::uint64_t size() const { return sectors_ * 512; }  // of the virtual disk, bytes
    std::uint32_t cluster_bits() const { return cluster_bits_; }
    std::uint32_t unit_bits() const { return unit_bits_; }
    std::uint32_t units() const { return 1u << (cluster_bits_ - unit_bits_); }  // of a cluster
    // Bits of the units of @cluster that lie in the disk, the last one possibly in part.
    std::uint32_t units_of(std::uint64_t cluster) const;

    const std::vector<Cluster>& clusters() const { return clusters_; }  // that the layer defines, ascending
    const std::vector<Segment>& segments() const { return segments_; }  // in the order of the log
    const Position& position() const { return position_; }
    const std::optional<Successor>& successor() const { return successor_; }
    // Bytes, a multiple of the cluster: from here on the layer has neither data nor log.
    std::uint64_t end() const { return end_; }

    // As Image::map().
    void map(std::uint64_t begin, std::uint64_t end, Sink sink) const;

private:
    class Reader;

    void settle();
    void check_places(const std::string& name) const;

    std::uint32_t cluster_bits_;
    std::uint32_t unit_bits_ = 0;
    std::uint64_t sectors_ = 0;
    LogId id_{};
    std::vector<Cluster> clusters_;
    std::vector<Segment> segments_;
    Position position_{};
    std::optional<Successor> successor_;
    std::uint64_t end_ = 0;
};

}  // namespace dmchain::qcow2
