// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: a small chain file that has a node of every kind, over sparse files, and its damaged
// variants, each with the message that both the tool and the target must give.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "chain/format.hpp"

namespace dmchain::test {

// The chain file's bytes, with the places of its parts.
class Sample {
public:
    // Makes layers and the chain file "good.chain" in @folder, and reads it back.
    explicit Sample(const std::string& folder);

    std::string bytes;
    std::uint64_t layers;    // byte offset of the layer table
    std::uint64_t root;      // of the root node: two middle slots, the second a hole
    std::uint64_t middle;    // of middle node 0: leaves 0, 1 and 2, then one DATA entry each for all others
    std::uint64_t array;     // of leaf 0: an array
    std::uint64_t runs;      // of leaf 1: runs; cluster 3 is compressed, cluster 5 fine
    std::uint64_t runs_aux;  // of its auxiliary words

    template <typename T>
    T get(std::uint64_t at) const {
        T v;
        bytes.copy(reinterpret_cast<char*>(&v), sizeof v, at);
        return v;
    }
    template <typename T>
    void put(std::uint64_t at, T v) {
        if (at + sizeof v > bytes.size()) throw std::out_of_range("Sample::put");
        std::memcpy(bytes.data() + at, &v, sizeof v);
    }

    // Layer 2 becomes the active one, with a log in its second cluster. Sound, but for the layer's content.
    void make_active();

    // Checksums made right again, so that the damage behind them is met.
    void seal_super();
    void seal_layers();
    void seal_node(std::uint64_t at);
};

enum class Met {
    load,  // refused when it is opened
    read,  // met when the index is read: an I/O error for what lies there
};

struct ChainDamage {
    std::string name;
    Met met;
    std::function<void(Sample&)> damage;
    // What follows "FILE: " up to what to do, by the tool; the kernel log has it, too.
    std::function<std::string(const Sample& damaged)> message;
};

const std::vector<ChainDamage>& chain_damages();

}  // namespace dmchain::test
