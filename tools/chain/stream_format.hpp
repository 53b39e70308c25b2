// SPDX-License-Identifier: GPL-2.0-or-later
// An incremental stream, byte by byte: see docs/format.md. All fields are little-endian.
#pragma once

#include <linux/types.h>

#include <cstddef>
#include <cstdint>

namespace dmchain::chain {

inline constexpr char stream_magic[] = "DMCHSTR\n";
inline constexpr std::uint32_t stream_version = 1;
inline constexpr std::uint32_t stream_record_magic = 0x52434d44;  // "DMCR"
inline constexpr std::uint64_t stream_max_data = 1u << 20;        // bytes of a record's data

enum StreamFlags : std::uint32_t {
    stream_has_base = 1,  // it is applied to a copy of the disk as of the base; otherwise it makes one
    stream_has_to = 2,    // what it leads to is a snapshot, and not a state that changed afterwards
};

struct stream_header {
    __u8 magic[8];
    __le32 version;
    __le32 crc;  // CRC-32C of all of it, this field being 0
    __le32 flags;
    __le32 reserved0;
    __le64 base_bytes;  // size of the disk at the base; 0: there is none
    __le64 bytes;       // size of the disk that it leads to
    __u8 base[16];      // ids of the snapshots; 0: none
    __u8 to[16];
    __u8 id[16];        // random, of the stream
    __le64 data_bytes;  // of all records, at the most
    __u8 reserved[160];
};
static_assert(sizeof(stream_header) == 256 && offsetof(stream_header, base) == 40 && offsetof(stream_header, data_bytes) == 88);

enum StreamKind : std::uint8_t { stream_data = 1, stream_zero = 2, stream_end = 3 };

struct stream_record {
    __le32 magic;
    __le32 crc;       // CRC-32C of bytes 8 to 47 and the data that follows
    __le64 number;    // 0 for the first, one more for each that follows
    __le64 start;     // byte of the disk; end: size of the disk
    __le64 bytes;     // end: of all data
    __le32 previous;  // crc of the record before, of the first one that of the header
    __u8 kind;
    __u8 reserved[11];
};
static_assert(sizeof(stream_record) == 48 && offsetof(stream_record, kind) == 36);

}  // namespace dmchain::chain
