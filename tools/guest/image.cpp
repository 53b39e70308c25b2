// SPDX-License-Identifier: GPL-2.0-or-later
// See image.hpp.
#include "guest/image.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "guest/core.hpp"
#include "guest/firecracker.hpp"
#include "guest/libvirt.hpp"
#include "guest/stream.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "io/zeroes.hpp"

namespace dmchain::guest {

namespace {

constexpr std::array<const char*, 4> names = {"stream", "mapped-ram", "firecracker", "core"};

}  // namespace

const char* name_of(Form form) { return names[static_cast<std::size_t>(form)]; }

std::optional<Form> form_of(const std::string& name) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) return std::nullopt;
    return static_cast<Form>(it - names.begin());
}

std::uint64_t Image::bytes() const {
    std::uint64_t sum = 0;
    for (const RamBlock& b : blocks) sum += b.bytes;
    return sum;
}

std::uint64_t Image::other_bytes() const {
    std::uint64_t sum = 0;
    for (const Range& r : others) sum += r.end - r.begin;
    return sum;
}

bool Image::read_page(std::size_t block, std::uint64_t page, void* to) const {
    const std::uint64_t where = blocks[block].where[page];
    if (!RamBlock::has_content(where)) {
        std::memset(to, 0, page_bytes);
        return false;
    }
    source.read(to, page_bytes, where);
    return true;
}

void see_pages(Image& image, bool look, const Seen& seen, const Done& progress) {
    constexpr std::uint64_t most = 256;  // pages read at once
    std::vector<unsigned char> data(most * page_bytes);
    for (std::size_t b = 0; b < image.blocks.size(); b++) {
        auto& where = image.blocks[b].where;
        for (std::size_t p = 0, n = 1; p < where.size(); p += n) {
            n = 1;
            const std::uint64_t at = where[p];
            if (!RamBlock::has_content(at)) continue;
            while (n < most && p + n < where.size() && where[p + n] == at + n * page_bytes) n++;
            image.source.read(data.data(), n * page_bytes, at);
            for (std::size_t i = 0; i < n; i++) {
                const unsigned char* const page = &data[i * page_bytes];
                if (look && is_zero(page, page_bytes))
                    where[p + i] = RamBlock::zero;
                else if (seen)
                    seen(b, p + i, page);
            }
            if (progress) progress(at + n * page_bytes);
        }
    }
}

Image read_image(Source source, const Seen& seen, const Done& progress) {
    Image image(std::move(source));
    const auto saved = read_libvirt(image.source);
    const std::uint64_t begin = saved ? saved->stream : 0;
    if (is_stream(image.source, begin)) {
        read_stream(image, begin, seen, progress);
        const bool mapped = image.form == Form::mapped_ram;
        if (saved && saved->mapped != mapped)
            throw damaged("{}: the header of libvirt says that the stream is {} mapped-ram, but it is {}",
                          escaped(image.source.name()), mapped ? "without" : "with", mapped ? "with" : "without");
    } else if (saved) {
        throw damaged("{}: at byte {} is no migration stream of QEMU, expected \"QEVM\" behind the header of libvirt",
                      escaped(image.source.name()), begin);
    } else if (is_core(image.source)) {
        read_core(image, seen, progress);
    } else {
        refuse_firecracker_state(image.source);
        throw failed(
            "{}: is no memory of a guest: expected a migration stream of QEMU, a file of 'virsh save', a qcow2 image with a "
            "state "
            "that savevm stored, or an ELF core; memory that Firecracker wrote needs --firecracker",
            escaped(image.source.name()));
    }
    return image;
}

}  // namespace dmchain::guest
