// SPDX-License-Identifier: GPL-2.0-or-later
// Neighbouring layers of a chain as one file: what is visible of them, in the order of the disk. The new file is
// written as an active layer is (data, then a log that says where), and sealed: until that is done no program takes it for
// an image.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "chain/copy_parts.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// What a merge has to do.
struct MergeSize {
    std::uint64_t clusters = 0;  // of 64 KiB, that the merged file defines: all, or in part
    std::uint64_t bytes = 0;     // of data
    // Of these, bytes that lie in the layers' files in such a way that the merged file can share their blocks; see measure().
    std::uint64_t shareable = 0;
    // Bytes that the merged file takes: clusters that are stored, and tables; at the most.
    std::uint64_t space = 0;

    std::uint64_t copied() const { return bytes - shareable; }
};

struct MergeTo {
    std::string path;            // must not exist, unless the merge goes on
    std::string backing_name{};  // as it is to stand in the header; "": none
    std::string backing_format = "qcow2";
    std::optional<qcow2::Label> label{};
    // It stands on nothing: what reads zeroes is left out, and clusters are stored whole, without extended L2 entries. The layers
    // may be any that can be read.
    bool flat = false;
    Readers readers{};  // if given, data are read by them, and not from the layers' files
    // Where the file system can do that, the file shares the blocks of the layers' files.
    bool share = false;
    // What is at @path, if anything is, was left by merge() of the same layers: it goes on from there. Data are made
    // durable for that every few seconds.
    bool goes_on = false;
    std::uint64_t rate = 0;  // bytes of data a second that are copied, at the most; 0: as fast as it goes
    std::uint64_t request = request_bytes;
    std::function<bool()> stop{};  // asked now and then: whether to stop, so that another call can go on
};

// Throws failed() for layers that cannot be merged, and damaged() for what is wrong in them. @range: opened with
// ChainOptions::depth, so that nothing below counts.
void require_mergeable(const qcow2::Chain& range);
// The same for layers of which one is smaller than the one below it: what it hides of that the merged one would not. @below: bytes of the
// disk of the layer that @range stands on; 0: it stands on nothing.
void require_not_shrunk(std::uint64_t below, const qcow2::Chain& range);
// @block: of the file system, in bytes, if files are to share blocks; otherwise 0.
MergeSize measure(const qcow2::Chain& range, bool flat = false, std::uint64_t block = 0);
// Makes the file, durable when this returns. It has the id of the topmost layer, unless it is flat: see point_id.hpp. @progress:
// bytes of data that are there. On an error what there is of it is left, still
// marked as in use. Returns false if it was told to stop.
bool merge(const qcow2::Chain& range, const MergeSize& size, const MergeTo& to,
           const std::function<void(std::uint64_t)>& progress);

// Whether the file at @path is an image, complete, of the state that @top is.
bool is_sealed_as(const std::string& path, const qcow2::Layer& top);

// Bytes a second at which merge() copies, as a sample says: at most 64 MiB of the layers' data, to a nameless file in @folder. 0: that
// cannot be said.
double measure_rate(const qcow2::Chain& range, const std::string& folder);

// Reads both: throws failed() if the merged file @path has other data than the layers.
void require_same(const qcow2::Chain& range, const std::string& path);

}  // namespace dmchain::chain
