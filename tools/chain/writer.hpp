// SPDX-License-Identifier: GPL-2.0-or-later
// Writes a chain file: leaves from settled windows, in any order and from several threads, then what
// stands above them, the layer table and, last, the superblock. The builder and the benchmarks' made-up chains use it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chain/layers.hpp"
#include "chain/output.hpp"
#include "chain/window.hpp"

namespace dmchain::chain {

struct BuildResult {
    std::uint64_t sectors = 0;     // of the virtual disk
    std::uint64_t nodes = 0;       // in the chain file
    std::uint64_t clusters = 0;    // that some layer has
    std::uint64_t file_bytes = 0;  // of the chain file
};

class Writer {
public:
    // Throws failed() if the disk is larger than a chain file can say, or the file cannot be made.
    Writer(const std::string& path, const Geometry& geometry, LayerTable& layers);

    // Windows that the disk takes; window i begins at cluster i * Window::cells.
    std::uint64_t windows() const { return (leaf_.size() + Window::leaves - 1) / Window::leaves; }
    // Writes the leaves of a settled window in one piece. @buffer: the calling thread's, kept from call to call.
    void add(const Window& window, std::vector<std::byte>& buffer);
    // After all windows. The file is durable and has its name when this returns. @active: nullptr: none.
    BuildResult finish(const ActiveState* active = nullptr, bool replace = true);

private:
    void note_compressed(const Window& window, std::uint64_t entry);
    std::uint64_t place(const std::vector<std::byte>& bytes);
    std::vector<std::uint64_t> add_level(unsigned level, const std::vector<std::uint64_t>& slots, std::size_t span);
    std::uint64_t add_upper();

    Geometry geometry_;
    LayerTable& layers_;
    Output out_;
    std::vector<std::uint64_t> leaf_;            // slot of each leaf
    std::vector<std::atomic<bool>> compressed_;  // by layer id
    std::atomic<std::uint64_t> next_;            // end of the chain file so far, bytes
    std::atomic<std::uint64_t> nodes_ = 0;
    std::atomic<std::uint64_t> clusters_ = 0;
};

}  // namespace dmchain::chain
