// SPDX-License-Identifier: GPL-2.0-or-later
// See stream.hpp. Each record carries the checksum of the one before: one that is missing, there twice or of another stream is
// found as one that is damaged.
#include "chain/stream.hpp"

#include <endian.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

namespace {

constexpr std::size_t crc_begin = 8;  // of a record

std::uint32_t record_crc(const stream_record& r, const void* data, std::uint64_t data_bytes) {
    const std::uint32_t crc = chain_crc32c_more(0, reinterpret_cast<const char*>(&r) + crc_begin, sizeof r - crc_begin);
    return chain_crc32c_more(crc, data, data_bytes);
}

std::uint32_t header_crc(stream_header h) {
    h.crc = 0;
    return chain_crc32c_more(0, &h, sizeof h);
}

qcow2::LayerId id_of(const unsigned char* bytes) {
    qcow2::LayerId id;
    std::memcpy(id.data(), bytes, id.size());
    return id;
}

}  // namespace

StreamWriter::StreamWriter(const StreamInfo& info, Put put) : put_(std::move(put)), disk_bytes_(info.bytes) {
    stream_header h{};
    std::memcpy(h.magic, stream_magic, sizeof h.magic);
    h.version = htole32(stream_version);
    h.flags = htole32((info.base ? stream_has_base : 0u) | (info.to ? stream_has_to : 0u));
    h.base_bytes = htole64(info.base_bytes);
    h.bytes = htole64(info.bytes);
    if (info.base) std::memcpy(h.base, info.base->data(), sizeof h.base);
    if (info.to) std::memcpy(h.to, info.to->data(), sizeof h.to);
    h.data_bytes = htole64(info.data_bytes);
    if (::getrandom(h.id, sizeof h.id, 0) != static_cast<ssize_t>(sizeof h.id))
        throw failed("no random bytes for the stream's id");
    previous_ = header_crc(h);
    h.crc = htole32(previous_);
    put_(&h, sizeof h);
}

void StreamWriter::record(StreamKind kind, std::uint64_t start, std::uint64_t bytes, const void* data, std::uint64_t data_bytes) {
    stream_record r{};
    r.magic = htole32(stream_record_magic);
    r.number = htole64(number_++);
    r.start = htole64(start);
    r.bytes = htole64(bytes);
    r.previous = htole32(previous_);
    r.kind = kind;
    previous_ = record_crc(r, data, data_bytes);
    r.crc = htole32(previous_);
    put_(&r, sizeof r);
    if (data_bytes) put_(data, data_bytes);
}

void StreamWriter::data(std::uint64_t start, const void* data, std::uint64_t bytes) {
    data_bytes_ += bytes;
    record(stream_data, start, bytes, data, bytes);
}

void StreamWriter::zero(std::uint64_t start, std::uint64_t bytes) { record(stream_zero, start, bytes, nullptr, 0); }

void StreamWriter::end() { record(stream_end, disk_bytes_, data_bytes_, nullptr, 0); }

StreamReader::StreamReader(int fd, std::string name) : fd_(fd), name_(std::move(name)), data_(stream_max_data) {
    stream_header h;
    get(&h, sizeof h);
    if (std::memcmp(h.magic, stream_magic, sizeof h.magic) != 0)
        throw failed("{}: is no stream of 'dmchain export --since'", name_);
    if (le32toh(h.version) != stream_version)
        throw failed("{}: has version {}, expected {}: a newer dmchain made it", name_, le32toh(h.version), stream_version);
    if (header_crc(h) != le32toh(h.crc))
        throw damaged("{}: checksum of its header is {:#x}, expected {:#x}", name_, header_crc(h), le32toh(h.crc));
    previous_ = le32toh(h.crc);
    if (le32toh(h.flags) & ~(stream_has_base | stream_has_to))
        throw failed("{}: flags at byte 16 are {:#x}, expected at most {:#x}: a newer dmchain made it", name_, le32toh(h.flags),
                     stream_has_base | stream_has_to);
    if (le32toh(h.flags) & stream_has_base) info_.base = id_of(h.base);
    if (le32toh(h.flags) & stream_has_to) info_.to = id_of(h.to);
    info_.base_bytes = le64toh(h.base_bytes);
    info_.bytes = le64toh(h.bytes);
    info_.data_bytes = le64toh(h.data_bytes);
    info_.id = id_of(h.id);
    constexpr std::uint64_t most = std::uint64_t{1} << 62;
    for (const std::uint64_t bytes : {info_.base_bytes, info_.bytes})
        if (bytes % 512 != 0 || bytes > most)
            throw damaged("{}: size of the disk is {}, expected a multiple of 512, at most {}", name_, bytes, most);
}

void StreamReader::get(void* to, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t n = ::read(fd_, static_cast<char*>(to) + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw failed("{}: cannot read at byte {}: {}", name_, at_ + done, std::strerror(errno));
        if (n == 0) throw damaged("{}: was cut off: ends at byte {}, expected more to follow", name_, at_ + done);
        done += static_cast<std::size_t>(n);
    }
    at_ += bytes;
}

void StreamReader::wrong(const std::string& what) const { throw damaged("{}: record {}: {}", name_, number_, what); }

std::optional<StreamReader::Record> StreamReader::next() {
    if (ended_) return std::nullopt;
    stream_record r;
    get(&r, sizeof r);
    const std::uint64_t start = le64toh(r.start), bytes = le64toh(r.bytes);
    if (le32toh(r.magic) != stream_record_magic)
        wrong(fmt::format("magic at byte {} is {:#x}, expected {:#x}", at_ - sizeof r, le32toh(r.magic), stream_record_magic));
    // How much belongs to it, before anything is read.
    if (r.kind == stream_data && bytes > stream_max_data)
        wrong(fmt::format("has {} bytes of data, expected at most {}", bytes, stream_max_data));
    const std::uint64_t data_bytes = r.kind == stream_data ? bytes : 0;
    if (data_bytes) get(data_.data(), data_bytes);
    const std::uint32_t crc = record_crc(r, data_.data(), data_bytes);
    if (crc != le32toh(r.crc)) wrong(fmt::format("checksum is {:#x}, expected {:#x}", crc, le32toh(r.crc)));
    if (le32toh(r.previous) != previous_ || le64toh(r.number) != number_)
        wrong(fmt::format("is number {} after a record with the checksum {:#x}, expected number {} after {:#x}",
                          le64toh(r.number), le32toh(r.previous), number_, previous_));
    previous_ = crc;
    if (r.kind == stream_end) {
        if (start != info_.bytes || bytes != data_bytes_ || bytes > info_.data_bytes)
            wrong(fmt::format("the end says {} bytes of data, expected {}", bytes, data_bytes_));
        ended_ = true;
        return std::nullopt;
    }
    if (r.kind != stream_data && r.kind != stream_zero) wrong(fmt::format("kind is {}, expected 1 to 3", r.kind));
    if (start % 512 != 0 || bytes % 512 != 0 || bytes == 0 || start < end_of_last_ || start > info_.bytes ||
        bytes > info_.bytes - start)
        wrong(fmt::format("is about {} bytes at byte {} of the disk, expected whole sectors from {} to {}", bytes, start,
                          end_of_last_, info_.bytes));
    end_of_last_ = start + bytes;
    data_bytes_ += data_bytes;
    number_++;
    return Record{start, bytes, data_bytes ? data_.data() : nullptr};
}

}  // namespace dmchain::chain
