// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: an active layer as the target would have left it, with any log, good or bad. The blocks are written from
// docs/format.md, not through tools/.
#pragma once

#include <endian.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "io/crc32c.hpp"
#include "support/folder.hpp"

namespace dmchain::test {

// Works on the bytes of a file that make_active() made; write() puts them on disk.
class ActiveMaker {
public:
    static constexpr std::uint64_t block = 4096;

    ActiveMaker(std::string file, unsigned bits) : bytes(std::move(file)), cluster(std::uint64_t{1} << bits) {
        segment_ = cluster;
        segment_bytes_ = get64(cluster + 40);
        next_ = cluster + block;
    }

    std::string bytes;
    std::uint64_t cluster;
    std::uint64_t sequence = 1;  // of the next block
    std::uint32_t epoch = 1;

    std::uint64_t get64(std::uint64_t at) const {
        std::uint64_t v;
        std::memcpy(&v, bytes.data() + at, 8);
        return le64toh(v);
    }
    template <typename T>
    void put(std::uint64_t at, T v) {
        if (at + sizeof v > bytes.size()) throw std::out_of_range("ActiveMaker::put");
        std::memcpy(bytes.data() + at, &v, sizeof v);
    }

    std::uint64_t place() const { return next_; }  // of the next block
    // Blocks that the segment has room for.
    std::uint64_t left() const { return (segment_ + segment_bytes_ - next_) / block; }

    // A cluster at the end of the file.
    std::uint64_t grow(std::uint64_t clusters = 1) {
        bytes.resize((bytes.size() + cluster - 1) / cluster * cluster);
        const std::uint64_t at = bytes.size();
        bytes.resize(at + clusters * cluster);
        return at;
    }

    // A block with any body; returns where it is.
    std::uint64_t add(unsigned type, const std::string& body, unsigned count = 0) {
        const std::uint64_t at = next_;
        put(at, htole32(0x4c4d4344u));
        std::memcpy(&bytes[at + 8], &bytes[cluster + 16], 8);
        put(at + 16, htole64(sequence++));
        put(at + 24, htole32(epoch));
        put(at + 28, static_cast<std::uint8_t>(type));
        put(at + 30, htole16(static_cast<std::uint16_t>(count)));
        std::memcpy(&bytes[at + 32], body.data(), body.size());
        sum(at);
        next_ += block;
        return at;
    }
    // Makes the checksum of the block at @at right.
    void sum(std::uint64_t at) { put(at + 4, htole32(chain_crc32c_more(0, &bytes[at + 8], block - 8))); }
    void sum_head() {
        put(cluster + 12, std::uint32_t{0});
        put(cluster + 12, htole32(chain_crc32c_more(0, &bytes[cluster], block)));
    }

    struct Record {
        std::uint64_t cluster, host, bitmap;
    };
    std::uint64_t records(const std::vector<Record>& all) {
        std::string body;
        for (const Record& r : all)
            for (const std::uint64_t v : {r.cluster, r.host, r.bitmap}) body += number(v);
        return add(1, body, static_cast<unsigned>(all.size()));
    }
    void next(std::uint64_t offset, std::uint64_t length) {
        add(2, number(offset) + number(length));
        segment_ = next_ = offset;
        segment_bytes_ = length;
    }
    void resize(std::uint64_t sectors) { add(3, number(sectors)); }
    void close(const std::string& id, const std::string& path) {
        const std::uint16_t n = htole16(static_cast<std::uint16_t>(path.size()));
        add(4, id + std::string(reinterpret_cast<const char*>(&n), 2) + path);
    }
    std::string id() const { return bytes.substr(cluster + 16, 16); }

    static std::string number(std::uint64_t v) {
        v = htole64(v);
        return {reinterpret_cast<const char*>(&v), sizeof v};
    }

private:
    std::uint64_t segment_ = 0;
    std::uint64_t segment_bytes_ = 0;
    std::uint64_t next_ = 0;
};

}  // namespace dmchain::test
