// SPDX-License-Identifier: GPL-2.0-or-later
// What genchain can make. Every function makes the folder `out` (absolute) with the chain's files, of
// which top.qcow2 is the active layer, and, if `raw` is not empty, that file with what the virtual
// disk must read as.
#pragma once

#include <set>
#include <string>

#include "prng.hpp"

namespace gen {

struct RandomOptions {
    u64 seed = 0;
    unsigned depth = 0;  // layers; 0: chosen by the seed, 1 to 40
    u64 size = 0;        // most bytes of a layer's virtual disk
    std::set<std::string> features;
};

// All that random_chain knows, by name.
const std::set<std::string>& all_features();

void random_chain(const std::string& out, const std::string& raw, const RandomOptions&);

// `depth` layers; every cluster of the disk is in a layer chosen at random. With `from`, the disk's
// content is that file's (its zero clusters are in no layer), with older versions of it below;
// otherwise each cluster has data that belongs there alone.
void deep_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size, unsigned cluster_bits,
                const std::string& from);

// A disk as somebody wrote it over time: `depth` times runs the shell command `command` with the number of the
// step, which changes the raw file `disk`; each layer has the clusters that its step changed.
void recorded_chain(const std::string& out, const std::string& disk, unsigned depth, const std::string& command,
                    unsigned cluster_bits);

// A disk of 2 TiB or so, with `count` clusters of data scattered over it.
void sparse_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size, unsigned cluster_bits,
                  u64 count);

// One image, written from its first cluster to its last, as a guest that fills its disk does. All
// metadata is there; the data clusters are holes in the file.
void in_order_image(const std::string& out, u64 size, unsigned cluster_bits);

}  // namespace gen
