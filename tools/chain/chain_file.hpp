// SPDX-License-Identifier: GPL-2.0-or-later
// A chain file as read: superblock and layer table checked, the index on demand. Used by activate,
// table, status and the tests; the fuzzer feeds it anything.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chain/format.hpp"
#include "io/file.hpp"

namespace dmchain::chain {

class ChainFile {
public:
    // Throws failed() if it cannot be read, damaged() with place, found and expected if it is not a sound one.
    explicit ChainFile(File file);

    const File& file() const { return file_; }
    const chain_super& super() const { return super_; }                 // the copy that counts
    const std::vector<chain_layer>& layers() const { return layers_; }  // base first
    std::string path(const chain_layer& layer) const;                   // as it was when the index was built; see places.hpp
    // Its own absolute path when it was built, or "": not noted.
    std::string home() const;
    std::uint64_t super_at() const { return super_at_; }  // byte of the copy that counts
    // nullptr: it has none. It is flagged UNSEALED.
    const chain_layer* active() const;
    std::uint64_t sectors() const { return geometry_.sectors; }

    // Reads and checks every node of the index; throws damaged() for the first that is wrong.
    void verify_index() const;

private:
    void walk(std::uint64_t entry, unsigned level, std::uint64_t first) const;

    File file_;
    std::uint64_t super_at_ = 0;  // byte of that copy
    chain_super super_{};
    std::vector<chain_layer> layers_;
    std::string strings_;
    std::vector<std::uint64_t> layer_bytes_;
    chain_geometry geometry_{};
};

// How to rebuild a chain file that has the superblock @s (nullptr: neither copy is sound).
const char* remedy(const chain_super* s);

// Whether the file begins like a chain file.
bool is_chain_file(const File& file);

}  // namespace dmchain::chain
