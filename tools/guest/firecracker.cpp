// SPDX-License-Identifier: GPL-2.0-or-later
// See firecracker.hpp.
#include "guest/firecracker.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

constexpr std::uint64_t most_low = std::uint64_t{3} << 30;
constexpr std::uint64_t most_state = 64u << 20;
constexpr std::size_t most_diffs = 1000;
// The first bytes of a state file, on x86-64, as a little-endian number.
constexpr std::uint64_t state_magic = 0x0710198486640000;

// Which file has the page; of the last one that has it.
class Layers {
public:
    explicit Layers(std::uint64_t pages) : of_(pages, 0) {}

    // @number: of the file in the source. Its holes are left.
    void add(const File& file, std::size_t number) {
        const auto end = static_cast<off_t>(file.size());
        for (off_t at = 0; at < end;) {
            const off_t begin = ::lseek(file.fd(), at, SEEK_DATA);
            if (begin < 0 && errno == ENXIO) return;
            at = begin < 0 ? begin : ::lseek(file.fd(), begin, SEEK_HOLE);
            if (at < 0) throw failed("{}: cannot look for holes: {}", escaped(file.path()), std::strerror(errno));
            if (begin == 0 && at == end)
                throw failed("{}: has no holes, expected them where memory did not change: was it copied without them?",
                             escaped(file.path()));
            const auto first = static_cast<std::uint64_t>(begin) / page_bytes;
            const auto last = (static_cast<std::uint64_t>(at) + page_bytes - 1) / page_bytes;
            for (std::uint64_t p = first; p < std::min<std::uint64_t>(last, of_.size()); p++)
                of_[p] = static_cast<std::uint16_t>(number);
        }
    }
    std::size_t operator[](std::uint64_t page) const { return of_[page]; }

private:
    std::vector<std::uint16_t> of_;
};

}  // namespace

Image read_firecracker(File memory, const std::vector<std::string>& diffs, const std::string& state, const Seen& seen,
                       const Done& progress) {
    Image image{Source(memory.name())};
    Source& source = image.source;
    const std::string full = memory.path();
    const std::uint64_t bytes = memory.size();
    if (bytes == 0 || bytes % page_bytes || bytes > most_memory)
        throw failed("{}: has {} bytes, expected the memory of a microVM: whole pages of {} bytes, at most {}", escaped(full),
                     bytes, page_bytes, most_memory);
    source.hold(std::move(memory));
    Layers layers(bytes / page_bytes);
    if (diffs.size() > most_diffs) throw failed("{} files of changes are given, expected at most {}", diffs.size(), most_diffs);
    for (const std::string& path : diffs) {
        File diff(path);
        if (diff.size() != bytes)
            throw failed("{}: has {} bytes, expected {}, as {} has", escaped(diff.path()), diff.size(), bytes, escaped(full));
        const std::size_t number = source.hold(std::move(diff));
        layers.add(source.file(number), number);
    }
    for (std::uint64_t p = 0; p < bytes / page_bytes; p++) source.add(layers[p], p * page_bytes, page_bytes);
    refuse_firecracker_state(source);

    image.form = Form::firecracker;
    image.low = std::min(bytes, most_low);
    RamBlock block;
    block.name = "memory";
    block.bytes = bytes;
    for (std::uint64_t p = 0; p < block.pages(); p++) block.where.push_back(p * page_bytes);
    image.blocks.push_back(std::move(block));
    see_pages(image, true, seen, progress);

    if (state.empty()) return image;
    File rest(state);
    const std::uint64_t state_bytes = rest.size();
    if (state_bytes == 0 || state_bytes > most_state)
        throw failed("{}: has {} bytes, expected the state of a microVM, at most {}", escaped(rest.path()), state_bytes,
                     most_state);
    source.add(source.hold(std::move(rest)), 0, state_bytes);
    image.others.push_back({bytes, bytes + state_bytes});
    image.before_pages = 1;
    return image;
}

void refuse_firecracker_state(const Source& source) {
    std::uint64_t head;
    if (source.size() < sizeof head) return;
    source.read(&head, sizeof head, 0);
    if (head == state_magic)
        throw failed("{}: is the state of a microVM of Firecracker, expected the file with its memory", escaped(source.name()));
}

void FirecrackerWriter::other(const void* data, std::size_t bytes, std::uint64_t) {
    state_(data, bytes, at_);
    at_ += bytes;
}

void FirecrackerWriter::page(std::size_t, std::uint64_t page, const unsigned char* data) {
    if (data) memory_(data, page_bytes, page * page_bytes);
}

}  // namespace dmchain::guest
