// SPDX-License-Identifier: GPL-2.0-or-later
// See stream.hpp. Numbers in the stream are big-endian.
#include "guest/stream.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

constexpr std::uint32_t magic = 0x5145564d;  // "QEVM"
constexpr std::uint32_t version = 3;

// The byte that a part of the stream begins with.
enum Part : unsigned char {
    part_end = 0,
    part_start = 1,
    part_part = 2,
    part_last = 3,
    part_full = 4,
    part_description = 6,
    part_configuration = 7,
    part_footer = 0x7e,
};

constexpr std::uint32_t ram_version = 4;
constexpr std::uint64_t longest_description = 16u << 20;

// The low bits of a page record.
enum Flag : std::uint64_t {
    flag_zero = 0x02,
    flag_sizes = 0x04,
    flag_page = 0x08,
    flag_end = 0x10,
    flag_same_block = 0x20,
};
constexpr std::uint64_t flag_bits = page_bytes - 1;

// A page takes no less than this: the number, and a byte for the zero that it is filled with.
constexpr std::uint64_t least_record = 9;

void put_be(unsigned char* to, std::uint64_t n, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) to[i] = static_cast<unsigned char>(n >> (8 * (bytes - 1 - i)));
}

// Reads a file from its start, once.
class Cursor {
public:
    explicit Cursor(const File& file) : file_(file), buffer_(1u << 20) {}

    std::uint64_t at() const { return begin_ + next_; }
    bool ended() const { return at() >= file_.size(); }

    // The next @bytes, at most 64 KiB, until the next call.
    const unsigned char* take(std::size_t bytes) {
        if (end_ - next_ < bytes) fill(bytes);
        const unsigned char* const p = &buffer_[next_];
        next_ += bytes;
        return p;
    }
    std::uint64_t number(unsigned bytes) {
        const unsigned char* const p = take(bytes);
        std::uint64_t n = 0;
        for (unsigned i = 0; i < bytes; i++) n = n << 8 | p[i];
        return n;
    }
    std::uint8_t byte() { return *take(1); }
    std::string text(std::size_t bytes) {
        const unsigned char* const p = take(bytes);
        return {p, p + bytes};
    }

private:
    void fill(std::size_t bytes) {
        std::memmove(buffer_.data(), &buffer_[next_], end_ - next_);
        begin_ += next_;
        end_ -= next_;
        next_ = 0;
        const std::uint64_t from = begin_ + end_;
        const std::uint64_t there = file_.size() > from ? file_.size() - from : 0;
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size() - end_, there));
        if (end_ + n < bytes)
            throw damaged("{}: was cut off: ends at byte {}, expected {} more at byte {}", escaped(file_.path()), from + n, bytes,
                          begin_);
        file_.read(&buffer_[end_], n, from);
        end_ += n;
    }

    const File& file_;
    std::vector<unsigned char> buffer_;
    std::uint64_t begin_ = 0;  // of the buffer, in the file
    std::size_t next_ = 0, end_ = 0;
};

}  // namespace

class Stream::Parser {
public:
    Parser(Stream& stream, const Seen& seen, const std::function<void(std::uint64_t)>& progress)
        : s_(stream), in_(stream.file_), name_(escaped(stream.file_.path())), seen_(seen), progress_(progress) {}

    void run() {
        header();
        bool last = false;
        while (!last) {
            const std::uint64_t at = in_.at();
            const std::uint8_t part = in_.byte();
            switch (part) {
            case part_configuration:
                if (started_) odd(at, "a configuration after the memory's start");
                s_.machine_ = in_.text(length(255, "the name of the machine", 4));
                continue;
            case part_start: start(at); break;
            case part_part:
            case part_last:
                section(at);
                last = part == part_last;
                break;
            case part_full:
                throw failed(
                    "{}: at byte {} the devices begin before the memory is complete: the machine was not stopped for "
                    "it, or its memory is elsewhere; stop it, then migrate without other capabilities",
                    name_, at);
            default: odd(at, fmt::format("a part of kind {:#x}", part));
            }
            footer();
            if (part == part_start) s_.head_bytes_ = in_.at();
        }
        s_.tail_offset_ = in_.at();
        tail();
    }

private:
    [[noreturn]] void odd(std::uint64_t at, const std::string& what) const {
        throw damaged("{}: at byte {} there is {}, expected a part of a migration stream", name_, at, what);
    }

    std::size_t length(std::size_t most, const char* of, unsigned bytes) {
        const std::uint64_t at = in_.at(), n = in_.number(bytes);
        if (n > most) throw damaged("{}: at byte {} {} has {} bytes, expected at most {}", name_, at, of, n, most);
        return n;
    }

    void header() {
        if (s_.file_.size() < 8 || in_.number(4) != magic)
            throw failed("{}: is no migration stream of QEMU: does not begin with \"QEVM\"", name_);
        const std::uint64_t v = in_.number(4);
        if (v != version) throw failed("{}: has version {} of the migration stream, expected {}", name_, v, version);
    }

    void start(std::uint64_t at) {
        s_.ram_section_ = static_cast<std::uint32_t>(in_.number(4));
        const std::string name = in_.text(in_.byte());
        const std::uint64_t instance = in_.number(4), v = in_.number(4);
        if (name != "ram" || instance != 0 || started_)
            throw failed(
                "{}: at byte {} begins the section {}, expected the memory of the machine alone: migrate without other "
                "capabilities (block, dirty-bitmaps)",
                name_, at, in_quotes(name));
        if (v != ram_version) throw failed("{}: at byte {} the memory has version {}, expected {}", name_, at, v, ram_version);
        started_ = true;
        sizes();
        const std::uint64_t end_at = in_.at(), end = in_.number(8);
        if (end != flag_end) unknown_flags(end_at, end);
    }

    void sizes() {
        const std::uint64_t at = in_.at(), first = in_.number(8);
        if ((first & flag_bits) != flag_sizes) unknown_flags(at, first);
        std::uint64_t total = first & ~flag_bits;
        // Each page has a record: so much memory cannot be in a shorter file. It also bounds what is allocated.
        if (total / page_bytes > s_.file_.size() / least_record)
            throw damaged(
                "{}: at byte {} is the size of the memory, {} bytes, expected at most {} in a file of {}: it was cut off, or "
                "its pages are elsewhere",
                name_, at, total, s_.file_.size() / least_record * page_bytes, s_.file_.size());
        if (total == 0) throw damaged("{}: at byte {} is the size of the memory, 0 bytes, expected more", name_, at);
        while (total) {
            const std::uint64_t block_at = in_.at();
            RamBlock b;
            b.name = in_.text(in_.byte());
            b.bytes = in_.number(8);
            if (b.bytes == 0 || b.bytes % page_bytes || b.bytes > total || b.name.empty() || find(b.name))
                throw damaged(
                    "{}: at byte {} is the block of memory {} of {} bytes, expected a new name and whole pages, at most {} bytes",
                    name_, block_at, in_quotes(b.name), b.bytes, total);
            total -= b.bytes;
            b.where.resize(b.pages());
            s_.blocks_.push_back(std::move(b));
        }
    }

    std::optional<std::size_t> find(const std::string& name) const {
        for (std::size_t i = 0; i < s_.blocks_.size(); i++)
            if (s_.blocks_[i].name == name) return i;
        return std::nullopt;
    }

    [[noreturn]] void unknown_flags(std::uint64_t at, std::uint64_t word) const {
        throw failed(
            "{}: at byte {} is a record with the flags {:#x}, expected 0x2, 0x4, 0x8, 0x10 or 0x20: migrate without "
            "capabilities that change how memory is sent (xbzrle, compress, multifd, postcopy)",
            name_, at, word & flag_bits);
    }

    void section(std::uint64_t at) {
        const std::uint64_t id = in_.number(4);
        if (!started_ || id != s_.ram_section_) odd(at, fmt::format("section {}, which did not begin", id));
        for (;;) {
            const std::uint64_t record_at = in_.at(), word = in_.number(8);
            const std::uint64_t flags = word & flag_bits, offset = word & ~flag_bits;
            if (flags == flag_end && offset == 0) return;
            const std::uint64_t kind = flags & ~std::uint64_t{flag_same_block};
            if (kind != flag_zero && kind != flag_page) unknown_flags(record_at, word);
            if (!(flags & flag_same_block)) {
                const std::string name = in_.text(in_.byte());
                block_ = find(name);
                if (!block_)
                    throw damaged("{}: at byte {} is a page of {}, expected one of the blocks that the stream begins with", name_,
                                  record_at, in_quotes(name));
            }
            if (!block_)
                throw damaged("{}: at byte {} is a page of the block before, expected the name of a block first", name_,
                              record_at);
            page(record_at, offset, kind);
        }
    }

    void page(std::uint64_t record_at, std::uint64_t offset, std::uint64_t kind) {
        RamBlock& b = s_.blocks_[*block_];
        if (offset >= b.bytes)
            throw damaged("{}: at byte {} is the page at {:#x} of {}, expected less than {:#x}", name_, record_at, offset,
                          in_quotes(b.name), b.bytes);
        std::uint64_t& where = b.where[offset / page_bytes];
        if (kind == flag_zero) {
            where = RamBlock::zero;
            if (const std::uint8_t fill = in_.byte())
                throw failed("{}: at byte {} is a page filled with {:#x}, expected 0", name_, record_at, fill);
            return;
        }
        where = in_.at();
        const unsigned char* const data = in_.take(page_bytes);
        if (seen_) seen_(*block_, offset / page_bytes, data);
        if (progress_ && where - told_ >= (1u << 24)) progress_(told_ = where);
    }

    void footer() {
        const std::uint64_t at = in_.at();
        const std::uint8_t mark = in_.byte();
        const std::uint64_t id = in_.number(4);
        if (mark != part_footer || id != s_.ram_section_)
            throw damaged("{}: at byte {} is {:#x} {}, expected the end of section {}", name_, at, mark, id, s_.ram_section_);
    }

    // The devices have no lengths: only how they begin, and what comes after them, can be looked at.
    void tail() {
        const std::uint64_t at = in_.at();
        if (in_.ended())
            throw damaged("{}: was cut off: ends at byte {}, after the memory, expected the devices of the machine", name_, at);
        const std::uint8_t part = in_.byte();
        if (part == part_start || part == part_part || part == part_last)
            throw failed(
                "{}: at byte {} more than the memory was sent in parts, expected the devices: migrate without other "
                "capabilities (block, dirty-bitmaps)",
                name_, at);
        if (part != part_full) odd(at, fmt::format("a part of kind {:#x}", part));
        description(at);
    }

    // The stream ends with part_end and a text in JSON that describes the devices' data.
    void description(std::uint64_t from) const {
        constexpr std::size_t head = 1 + 1 + 4;
        const std::uint64_t size = s_.file_.size(), begin = std::max(from, size - std::min(size, longest_description));
        std::vector<unsigned char> end(size - begin);
        s_.file_.read(end.data(), end.size(), begin);
        for (std::size_t i = 0; i + head < end.size(); i++) {
            const unsigned char* const p = &end[i];
            const std::uint64_t rest = end.size() - i - head;
            const std::uint64_t length = std::uint64_t{p[2]} << 24 | p[3] << 16 | p[4] << 8 | p[5];
            if (p[0] == part_end && p[1] == part_description && length == rest && p[head] == '{' && end.back() == '}') return;
        }
        throw damaged("{}: was cut off: ends at byte {} without the description of its devices", name_, size);
    }

    Stream& s_;
    Cursor in_;
    const std::string name_;
    const Seen& seen_;
    const std::function<void(std::uint64_t)>& progress_;
    bool started_ = false;
    std::optional<std::size_t> block_;
    std::uint64_t told_ = 0;
};

Stream::Stream(File file, const Seen& seen, const std::function<void(std::uint64_t)>& progress) : file_(std::move(file)) {
    Parser(*this, seen, progress).run();
}

std::uint64_t Stream::bytes() const {
    std::uint64_t sum = 0;
    for (const RamBlock& b : blocks_) sum += b.bytes;
    return sum;
}

bool Stream::read_page(std::size_t block, std::uint64_t page, void* to) const {
    const std::uint64_t where = blocks_[block].where[page];
    if (where == RamBlock::absent || where == RamBlock::zero) {
        std::memset(to, 0, page_bytes);
        return false;
    }
    file_.read(to, page_bytes, where);
    return true;
}

void PageWriter::begin(std::uint32_t section) {
    unsigned char head[5] = {part_last};
    put_be(head + 1, section, 4);
    put_(head, sizeof head);
}

void PageWriter::page(const std::string& block, std::uint64_t page, const unsigned char* data) {
    unsigned char record[8 + 1 + 255];
    const bool same = block == block_;
    std::uint64_t flags = data ? flag_page : flag_zero;
    if (same) flags |= flag_same_block;
    put_be(record, page * page_bytes | flags, 8);
    std::size_t n = 8;
    if (!same) {
        record[n++] = static_cast<unsigned char>(block.size());
        std::memcpy(record + n, block.data(), block.size());
        n += block.size();
        block_ = block;
    }
    put_(record, n);
    const unsigned char fill = 0;
    if (data)
        put_(data, page_bytes);
    else
        put_(&fill, 1);
}

void PageWriter::end(std::uint32_t section) {
    unsigned char tail[8 + 5];
    put_be(tail, flag_end, 8);
    tail[8] = part_footer;
    put_be(tail + 9, section, 4);
    put_(tail, sizeof tail);
}

}  // namespace dmchain::guest
