// SPDX-License-Identifier: GPL-2.0-or-later
// Streams of what is different at two points of a disk: written by export, read by import. docs/format.md has the format.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "chain/stream_format.hpp"
#include "qcow2/header.hpp"

namespace dmchain::chain {

struct StreamInfo {
    std::optional<qcow2::LayerId> base;  // none: it makes the whole disk
    std::uint64_t base_bytes = 0;        // size of the disk at the base
    std::optional<qcow2::LayerId> to;    // none: no snapshot
    std::uint64_t bytes = 0;             // size of the disk that it leads to
    std::uint64_t data_bytes = 0;        // of all records, at the most
    qcow2::LayerId id{};                 // of the stream
};

class StreamWriter {
public:
    using Put = std::function<void(const void* data, std::size_t bytes)>;
    // Writes the header. @info.id is ignored: the stream gets one.
    StreamWriter(const StreamInfo& info, Put put);

    // Records, ascending. @bytes of data: at most stream_max_data.
    void data(std::uint64_t start, const void* data, std::uint64_t bytes);
    void zero(std::uint64_t start, std::uint64_t bytes);
    void end();

private:
    void record(StreamKind kind, std::uint64_t start, std::uint64_t bytes, const void* data, std::uint64_t data_bytes);

    Put put_;
    std::uint64_t disk_bytes_;
    std::uint64_t number_ = 0, data_bytes_ = 0;
    std::uint32_t previous_;
};

class StreamReader {
public:
    // Reads the header. @name is what messages call the stream. Throws failed() for what is no stream, or is of another version;
    // damaged() for what contradicts the format, here and in next().
    StreamReader(int fd, std::string name);

    struct Record {
        std::uint64_t start = 0, bytes = 0;
        const unsigned char* data = nullptr;  // nullptr: zeroes. Until the next call of next()
    };
    // The next record, checked; nothing: the stream ended as it should.
    std::optional<Record> next();

    const StreamInfo& info() const { return info_; }

private:
    void get(void* to, std::size_t bytes);
    [[noreturn]] void wrong(const std::string& what) const;

    int fd_;
    std::string name_;
    StreamInfo info_;
    std::uint64_t at_ = 0;  // byte of the stream
    std::uint64_t number_ = 0, data_bytes_ = 0;
    std::uint64_t end_of_last_ = 0;  // byte of the disk
    std::uint32_t previous_ = 0;
    bool ended_ = false;
    std::vector<unsigned char> data_;
};

}  // namespace dmchain::chain
