// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer target: memory of guests. Input that begins with 's' is an image of it behind that byte, in any form that is told by
// its content, with 'q' a qcow2 image with the state of a machine: it is read, what its guest uses it for is looked up, and it is
// written again. With 'm' it is a manifest of stored memory, whose checksum is made right first: what is read is packed again,
// and must be the same. With 'd' it is a guest's disk, whose free blocks are looked up.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "guest/classify.hpp"
#include "guest/libvirt.hpp"
#include "guest/mapped_ram.hpp"
#include "guest/stream.hpp"
#include "guest/vm_state.hpp"
#include "io/error.hpp"
#include "replica/free_blocks.hpp"
#include "replica/manifest.hpp"
#include "support/image_content.hpp"

namespace {

using namespace dmchain;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "promise broken: %s\n", what);
    std::abort();
}

File file_of(const std::uint8_t* data, std::size_t size) {
    const int fd = ::memfd_create("image", MFD_CLOEXEC);
    require(fd >= 0 && ::write(fd, data, size) == static_cast<ssize_t>(size), "memory for the input");
    return {fd, "image"};
}

void check_image(guest::Source source) {
    const std::uint64_t size = source.size();
    guest::Candidates candidates;
    const guest::Image image = guest::read_image(
        std::move(source),
        [&](std::size_t block, std::uint64_t page, const unsigned char* content) { candidates.look_at(block, page, content); });
    // A core's hole below 1 MiB is counted, too.
    require(image.bytes() <= size * 512 + (1 << 20), "no more memory than the file can have pages of");
    const guest::PageMap map = guest::classify(image, candidates);
    std::uint64_t pages = 0;
    for (const auto& c : guest::count(image, map)) pages += c.pages;
    require(pages * guest::page_bytes == image.bytes(), "each page has one class");
    require(map.release.empty() != map.reason.empty(), "a guest is understood, or there is a reason");
    std::string again;
    if (image.form == guest::Form::core) return;
    const auto put = test::put_into(again);
    std::vector<std::string> names;
    for (const auto& b : image.blocks) names.push_back(b.name);
    if (image.form == guest::Form::mapped_ram) {
        guest::MappedRamWriter out(image.blocks, put);
        test::write_again(image, out);
    } else {
        guest::StreamWriter out(names, image.ram_section, put);
        test::write_again(image, out);
    }
    const guest::Image read_again =
        guest::read_image(guest::Source(file_of(reinterpret_cast<const std::uint8_t*>(again.data()), again.size())));
    require(test::content(read_again) == test::content(image), "what is written again reads the same");
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

void look_at_disk(const std::uint8_t* data, std::size_t size) {
    const auto read = [&](void* to, std::size_t bytes, std::uint64_t at) {
        require(at <= size && bytes <= size - at, "only what is on the disk is read");
        std::memcpy(to, data + at, bytes);
    };
    std::uint64_t end = 0;
    for (const replica::DiskRange& r : replica::free_blocks(read, size)) {
        require(r.begin >= end && r.end > r.begin && r.end <= size, "free blocks ascend, on the disk");
        end = r.end;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    try {
        // What is compressed starts a program: not here.
        if (data[0] == 's') {
            guest::Source source(file_of(data + 1, size - 1));
            const auto saved = guest::read_libvirt(source);
            if (!saved || !saved->program) check_image(std::move(source));
        }
        if (data[0] == 'q') check_image(guest::open_vm_state(file_of(data + 1, size - 1), std::nullopt));
        if (data[0] == 'm') read_manifest(data + 1, size - 1);
        if (data[0] == 'd') look_at_disk(data + 1, (size - 1) / 512 * 512);
    } catch (const Error& e) {
        require(e.code() == Exit::failed || e.code() == Exit::damaged, "a refusal is a failure or damage");
        require(std::strchr(e.what(), '\n') == nullptr, "a refusal is one line");
    }
    return 0;
}
