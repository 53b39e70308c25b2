// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer target: memory of guests. Input that begins with 's' is a migration stream behind that byte: it is read, and what its guest
// uses it for is looked up. With 'm' it is a manifest of stored memory, whose checksum is made right first: what is read is packed again,
// and must be the same.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "guest/classify.hpp"
#include "io/error.hpp"
#include "replica/manifest.hpp"

namespace {

using namespace dmchain;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "promise broken: %s\n", what);
    std::abort();
}

void read_stream(const std::uint8_t* data, std::size_t size) {
    const int fd = ::memfd_create("stream", MFD_CLOEXEC);
    require(fd >= 0 && ::write(fd, data, size) == static_cast<ssize_t>(size), "memory for the input");
    File file(fd, "stream");
    guest::Candidates candidates;
    const guest::Stream stream(std::move(file), [&](std::size_t block, std::uint64_t page, const unsigned char* content) {
        candidates.look_at(block, page, content);
    });
    require(stream.bytes() <= size * 512, "no more memory than the file can have pages of");
    const guest::PageMap map = guest::classify(stream, candidates);
    std::uint64_t pages = 0;
    for (const auto& c : guest::count(stream, map)) pages += c.pages;
    require(pages * guest::page_bytes == stream.bytes(), "each page has one class");
    require(map.release.empty() != map.reason.empty(), "a guest is understood, or there is a reason");
    std::vector<unsigned char> page(guest::page_bytes);
    for (std::size_t b = 0; b < stream.blocks().size(); b++)
        for (std::uint64_t p = 0; p < stream.blocks()[b].pages(); p++) stream.read_page(b, p, page.data());
}

void read_manifest(const std::uint8_t* data, std::size_t size) {
    std::vector<unsigned char> bytes(data, data + size);
    if (size > 32) {
        const replica::Digest right = replica::digest_of(bytes.data(), size - 32);
        std::memcpy(&bytes[size - 32], right.data(), right.size());
    }
    const replica::Manifest m = replica::Manifest::unpack(bytes, "manifest");
    const auto packed = m.pack();
    require(replica::Manifest::unpack(packed, "manifest").pack() == packed, "what is packed reads the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    try {
        if (data[0] == 's') read_stream(data + 1, size - 1);
        if (data[0] == 'm') read_manifest(data + 1, size - 1);
    } catch (const Error& e) {
        require(e.code() == Exit::failed || e.code() == Exit::damaged, "a refusal is a failure or damage");
        require(std::strchr(e.what(), '\n') == nullptr, "a refusal is one line");
    }
    return 0;
}
