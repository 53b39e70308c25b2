// SPDX-License-Identifier: GPL-2.0-or-later
// What was done to a disk, in order, so that its content after a cut can be judged: written by stomp, read by verify.
// A sector says which operation wrote it, so that foreign data is told from data of its own that is too old.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace dmchain::crash {

inline constexpr std::uint32_t sector_bytes = 512;

inline std::uint64_t mix(std::uint64_t x) {  // the finalizer of MurmurHash3
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

// The content of @sector as operation @seq (> 0) writes it; 0: zeroes.
inline void fill_sector(std::uint64_t sector, std::uint64_t seq, unsigned char* out) {
    if (seq == 0) {
        std::memset(out, 0, sector_bytes);
        return;
    }
    for (std::uint64_t i = 0; i < sector_bytes / 8; i++) {
        const std::uint64_t v = i == 0 ? sector : i == 1 ? seq : mix(mix(sector + 1) ^ mix(seq) ^ i);
        std::memcpy(out + 8 * i, &v, 8);
    }
}

// One line of the history: kind, number, first sector, sectors.
//   w  written       z  zeroed (or discarded)       Both get their line before they are issued.
//   f  a flush is over that covers all operations up to this number
//   u  this operation alone is durable (FUA)
struct Event {
    char kind;
    std::uint64_t seq, sector, count;
};

inline std::vector<Event> read_history(const std::string& path) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error(path + ": cannot open it");
    std::vector<Event> events;
    Event e;
    while (in >> e.kind >> e.seq >> e.sector >> e.count) events.push_back(e);
    return events;
}

}  // namespace dmchain::crash
