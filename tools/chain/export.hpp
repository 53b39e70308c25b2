// SPDX-License-Identifier: GPL-2.0-or-later
// A disk as it was at a point, or what is different since another one, as a file or a stream of bytes. For the command export.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "chain/copy_parts.hpp"
#include "chain/stream.hpp"

namespace dmchain::chain {

// What there is to copy: bytes of data.
std::uint64_t data_bytes(const qcow2::Chain& chain, const Points& points);

struct ExportHow {
    Readers readers;
    bool replace = false;  // a file that has the path goes, once the new one is whole and durable
    // Bytes of data more; from any thread.
    std::function<void(std::uint64_t)> progress;

    // The same for who says how many bytes there are so far.
    std::function<void(std::uint64_t)> so_far() const {
        return [progress = progress, before = std::uint64_t{0}](std::uint64_t done) mutable {
            if (progress) progress(done - std::exchange(before, done));
        };
    }
};

// Whether the path may be made: throws failed() if there is something other than an empty file, unless it is a file and @replace.
// Returns whether there is a file that goes.
bool require_free(const std::string& path, bool replace);

// The whole disk at layer number @point as the raw file @path, with holes where it reads zeroes; under another name until it is
// durable.
void export_raw(const qcow2::Chain& chain, std::size_t point, const std::string& path, const ExportHow& how);
// The same as bytes to the file descriptor @fd, one after the other.
void export_raw(const qcow2::Chain& chain, std::size_t point, int fd, const ExportHow& how);
// The whole disk as one qcow2 file that stands on nothing, its clusters compressed or not. @chain: up to the point, and no further
// (Chain::end_at).
void export_qcow2(const qcow2::Chain& chain, const std::string& path, bool compress, const ExportHow& how);

// Copies of all layers of @chain, sealed ones, in the new folder @path, each with the name of its file and standing on its neighbour
// there; under another name until all is durable. Of @how: progress, in bytes of the files. Throws failed() for layers that are more, or
// less, than a file.
void export_layers(const qcow2::Chain& chain, const std::string& path, const ExportHow& how);
// Bytes of the files that it copies.
std::uint64_t layer_bytes(const qcow2::Chain& chain);

// What is different at @points as a stream; of @info data_bytes and the sizes are filled in.
void export_stream(const qcow2::Chain& chain, const Points& points, StreamInfo info, const std::string& path,
                   const ExportHow& how);
void export_stream(const qcow2::Chain& chain, const Points& points, StreamInfo info, int fd, const ExportHow& how);

}  // namespace dmchain::chain
