// SPDX-License-Identifier: GPL-2.0-or-later
// Streams: what was written is what is read, and whatever is wrong in one is found, with its place, before it is used.
#include "chain/stream.hpp"

#include <doctest/doctest.h>
#include <endian.h>
#include <fcntl.h>

#include <cstring>
#include <functional>

#include "chain/copy_parts.hpp"
#include "io/crc32c.hpp"
#include "io/error.hpp"
#include "support/folder.hpp"

namespace dmchain::test {
namespace {

using namespace chain;

constexpr std::uint64_t disk = 8 << 20;

qcow2::LayerId id(unsigned char n) {
    qcow2::LayerId out;
    out.fill(n);
    return out;
}

std::string sample() {
    std::string out;
    StreamInfo info{id(1), disk / 2, id(2), disk, 1024 + stream_max_data, {}};
    StreamWriter to(info, [&](const void* data, std::size_t bytes) { out.append(static_cast<const char*>(data), bytes); });
    to.data(512, std::string(1024, 'a').data(), 1024);
    to.zero(65536, 4 << 20);
    to.data(disk - stream_max_data, std::string(stream_max_data, 'b').data(), stream_max_data);
    to.end();
    return out;
}

// Reads all; returns what it says when it ends.
std::string read_all(const Folder& folder, const std::string& bytes) {
    folder.write("stream", bytes);
    const int fd = ::open((folder / "stream").c_str(), O_RDONLY | O_CLOEXEC);
    std::string said;
    try {
        StreamReader from(fd, "S");
        while (from.next()) {}
    } catch (const Error& e) {
        said = e.what();
        CHECK((e.code() == Exit::damaged || e.code() == Exit::failed));
    }
    ::close(fd);
    return said;
}

// A change to record number @n, with checksums that are right again.
std::string with_record(unsigned n, const std::function<void(stream_record&)>& change) {
    std::string s = sample();
    std::size_t at = sizeof(stream_header);
    std::uint32_t previous = 0;
    std::memcpy(&previous, &s[12], 4);
    for (unsigned i = 0;; i++) {
        stream_record r;
        std::memcpy(&r, &s[at], sizeof r);
        const std::uint64_t data = r.kind == stream_data ? le64toh(r.bytes) : 0;
        r.previous = previous;
        if (i == n) change(r);
        std::uint32_t crc = chain_crc32c_more(0, reinterpret_cast<const char*>(&r) + 8, sizeof r - 8);
        crc = chain_crc32c_more(crc, &s[at] + sizeof r, data);
        r.crc = previous = htole32(crc);
        std::memcpy(&s[at], &r, sizeof r);
        if (i == n || r.kind == stream_end) return s;
        at += sizeof r + data;
    }
}

}  // namespace

TEST_CASE("a stream says what was written") {
    const Folder folder;
    folder.write("stream", sample());
    const int fd = ::open((folder / "stream").c_str(), O_RDONLY | O_CLOEXEC);
    StreamReader from(fd, "S");
    CHECK(from.info().base == id(1));
    CHECK(from.info().to == id(2));
    CHECK(from.info().base_bytes == disk / 2);
    CHECK(from.info().bytes == disk);
    auto r = from.next();
    REQUIRE(r);
    CHECK(r->start == 512);
    CHECK(std::string(reinterpret_cast<const char*>(r->data), r->bytes) == std::string(1024, 'a'));
    r = from.next();
    REQUIRE(r);
    CHECK(r->data == nullptr);
    CHECK(r->bytes == 4 << 20);
    r = from.next();
    REQUIRE(r);
    CHECK(r->data[stream_max_data - 1] == 'b');
    CHECK_FALSE(from.next());
    CHECK_FALSE(from.next());
    ::close(fd);
}

TEST_CASE("what is wrong in a stream is found") {
    const Folder folder;
    const std::string good = sample();
    CHECK(read_all(folder, good) == "");
    // Every byte of the header and the first record, and some others.
    for (std::size_t at = 0; at < good.size(); at += at < 1700 ? 1 : 9973) {
        std::string s = good;
        s[at] = static_cast<char>(s[at] ^ 4);
        CAPTURE(at);
        CHECK(read_all(folder, s) != "");
    }
    for (std::size_t bytes = 0; bytes < good.size(); bytes += bytes < 1700 ? 7 : 9973) {
        CAPTURE(bytes);
        CHECK(read_all(folder, good.substr(0, bytes)).find("was cut off: ends at byte") != std::string::npos);
    }
}

TEST_CASE("a stream that an enemy made") {
    const Folder folder;
    const auto says = [&](unsigned n, const std::function<void(stream_record&)>& change) {
        return read_all(folder, with_record(n, change));
    };
    CHECK(says(9, [](stream_record&) {}) == "");
    CHECK(says(0, [](stream_record& r) { r.bytes = htole64(~0ull); }) ==
          "S: record 0: has 18446744073709551615 bytes of data, expected at most 1048576");
    CHECK(says(1, [](stream_record& r) { r.start = htole64(1024); }) ==
          "S: record 1: is about 4194304 bytes at byte 1024 of the disk, expected whole sectors from 1536 to 8388608");
    CHECK(says(1, [](stream_record& r) { r.bytes = htole64(~511ull); }).find("expected whole sectors from 1536") !=
          std::string::npos);
    CHECK(says(1, [](stream_record& r) { r.start = htole64(~511ull); }).find("expected whole sectors") != std::string::npos);
    CHECK(says(1, [](stream_record& r) { r.bytes = htole64(100); }).find("expected whole sectors") != std::string::npos);
    CHECK(says(1, [](stream_record& r) { r.bytes = 0; }).find("expected whole sectors") != std::string::npos);
    CHECK(says(1, [](stream_record& r) { r.kind = 9; }) == "S: record 1: kind is 9, expected 1 to 3");
    CHECK(says(1, [](stream_record& r) { r.kind = stream_end; }).find("the end says") != std::string::npos);
    CHECK(says(1, [](stream_record& r) { r.number = htole64(7); }).find("is number 7 after a record") != std::string::npos);
    CHECK(says(3, [](stream_record& r) { r.bytes = 0; }).find("the end says 0 bytes of data, expected 1049600") !=
          std::string::npos);
}

}  // namespace dmchain::test
