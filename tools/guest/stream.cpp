// SPDX-License-Identifier: GPL-2.0-or-later
// See stream.hpp. Numbers in the stream are big-endian.
#include "guest/stream.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "guest/cursor.hpp"
#include "guest/mapped_ram.hpp"
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
    part_subsection = 5,
    part_description = 6,
    part_configuration = 7,
    part_command = 8,
    part_footer = 0x7e,
};

// The one command that a file may have: since QEMU 10 it comes before the last section of memory.
constexpr std::uint64_t command_switchover_start = 11;

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

class Parser {
public:
    Parser(Image& image, std::uint64_t begin, const Seen& seen, const Done& progress)
        : s_(image), in_(image.source, begin), name_(escaped(image.source.name())), seen_(seen), progress_(progress) {}

    void run() {
        header();
        bool last = false;
        while (!last) {
            const std::uint64_t at = in_.at();
            const std::uint8_t part = in_.byte();
            switch (part) {
            case part_configuration:
                if (started_) odd(at, "a configuration after the memory's start");
                s_.machine = in_.text(length(255, "the name of the machine", 4));
                configured_ = true;
                continue;
            case part_subsection:
                if (started_ || !configured_) odd(at, "an addition to the configuration elsewhere");
                subsection(at);
                continue;
            case part_command: command(at); continue;
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
            // What comes between blocks of mapped-ram was noted there.
            if (part == part_start && s_.form == Form::stream) other(in_.at());
        }
        if (s_.form == Form::stream) rest_ = in_.at();
        s_.before_pages = s_.others.size();
        s_.processors = Range{in_.at(), s_.source.size()};
        tail();
        other(s_.source.size());
        if (s_.form == Form::mapped_ram) see_pages(s_, false, seen_, progress_);
    }

private:
    [[noreturn]] void odd(std::uint64_t at, const std::string& what) const {
        throw damaged("{}: at byte {} there is {}, expected a part of a migration stream", name_, at, what);
    }

    // What was not a page yet, up to @end, is to be kept.
    void other(std::uint64_t end) {
        s_.others.push_back({rest_, end});
        rest_ = end;
    }

    std::size_t length(std::size_t most, const char* of, unsigned bytes) {
        const std::uint64_t at = in_.at(), n = in_.number(bytes);
        if (n > most) throw damaged("{}: at byte {} {} has {} bytes, expected at most {}", name_, at, of, n, most);
        return n;
    }

    void header() {
        in_.number(4);  // the caller has looked at it
        const std::uint64_t v = in_.number(4);
        if (v != version) throw failed("{}: has version {} of the migration stream, expected {}", name_, v, version);
    }

    // What QEMU adds to the configuration: only as much as a capability, or an option, makes it.
    void subsection(std::uint64_t at) {
        const std::string name = in_.text(in_.byte());
        in_.number(4);  // its version
        if (name == "configuration/capabilities") {
            for (std::uint64_t n = length(255, "the list of capabilities", 4); n; n--) {
                const std::string capability = in_.text(in_.byte());
                if (capability != "mapped-ram")
                    throw failed("{}: at byte {} is said that the capability {} is on, which is not known: migrate without it",
                                 name_, at, in_quotes(capability));
                s_.form = Form::mapped_ram;
            }
        } else if (name == "configuration/uuid") {
            in_.take(16);
        } else {
            throw failed("{}: at byte {} is the addition {} to the configuration, which is not known", name_, at,
                         in_quotes(name));
        }
    }

    // Kept, in its place before the last section.
    void command(std::uint64_t at) {
        const std::uint64_t number = in_.number(2), bytes = in_.number(2);
        if (!started_ || number != command_switchover_start || bytes)
            throw failed(
                "{}: at byte {} is the command {} with {} bytes, expected only {} with none: migrate without capabilities "
                "(postcopy, colo)",
                name_, at, number, bytes, command_switchover_start);
        if (s_.form == Form::stream) s_.others.push_back({at, in_.at()});
    }

    void start(std::uint64_t at) {
        s_.ram_section = static_cast<std::uint32_t>(in_.number(4));
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
        // Each page has a record, or a place: so much memory cannot be in a shorter file. It also bounds what is allocated.
        const std::uint64_t size = s_.source.size();
        const std::uint64_t most = std::min(most_memory, s_.form == Form::mapped_ram ? size : size / least_record * page_bytes);
        if (total > most)
            throw damaged(
                "{}: at byte {} is the size of the memory, {} bytes, expected at most {} in a file of {}: it was cut off, or "
                "its pages are elsewhere",
                name_, at, total, most, size);
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
            if (s_.form == Form::mapped_ram) {
                read_mapped_block(s_.source, in_, b);
                other(b.bitmap_at);
                rest_ = in_.at();
            } else {
                b.where.resize(b.pages(), RamBlock::absent);
            }
            s_.blocks.push_back(std::move(b));
        }
    }

    std::optional<std::size_t> find(const std::string& name) const {
        for (std::size_t i = 0; i < s_.blocks.size(); i++)
            if (s_.blocks[i].name == name) return i;
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
        if (!started_ || id != s_.ram_section) odd(at, fmt::format("section {}, which did not begin", id));
        for (;;) {
            const std::uint64_t record_at = in_.at(), word = in_.number(8);
            const std::uint64_t flags = word & flag_bits, offset = word & ~flag_bits;
            if (flags == flag_end && offset == 0) return;
            const std::uint64_t kind = flags & ~std::uint64_t{flag_same_block};
            if (s_.form == Form::mapped_ram || (kind != flag_zero && kind != flag_page)) unknown_flags(record_at, word);
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
        RamBlock& b = s_.blocks[*block_];
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
        if (mark != part_footer || id != s_.ram_section)
            throw damaged("{}: at byte {} is {:#x} {}, expected the end of section {}", name_, at, mark, id, s_.ram_section);
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
        const std::uint64_t size = s_.source.size(), begin = std::max(from, size - std::min(size, longest_description));
        std::vector<unsigned char> end(size - begin);
        s_.source.read(end.data(), end.size(), begin);
        for (std::size_t i = 0; i + head < end.size(); i++) {
            const unsigned char* const p = &end[i];
            const std::uint64_t rest = end.size() - i - head;
            const std::uint64_t length = std::uint64_t{p[2]} << 24 | p[3] << 16 | p[4] << 8 | p[5];
            if (p[0] == part_end && p[1] == part_description && length == rest && p[head] == '{' && end.back() == '}') return;
        }
        throw damaged("{}: was cut off: ends at byte {} without the description of its devices", name_, size);
    }

    Image& s_;
    Cursor in_;
    const std::string name_;
    const Seen& seen_;
    const Done& progress_;
    bool configured_ = false, started_ = false;
    std::optional<std::size_t> block_;
    std::uint64_t told_ = 0;
    std::uint64_t rest_ = 0;  // byte of the source up to which all is pages, or noted
};

}  // namespace

bool is_stream(const Source& source, std::uint64_t begin) {
    unsigned char head[4], expected[4];
    if (source.size() < begin || source.size() - begin < sizeof head) return false;
    source.read(head, sizeof head, begin);
    put_be(expected, magic, sizeof expected);
    return std::memcmp(head, expected, sizeof head) == 0;
}

void read_stream(Image& image, std::uint64_t begin, const Seen& seen, const Done& progress) {
    Parser(image, begin, seen, progress).run();
}

void StreamWriter::put(const void* data, std::size_t bytes) {
    put_(data, bytes, at_);
    at_ += bytes;
}

// Where they come is where they were, but for what the pages took.
void StreamWriter::other(const void* data, std::size_t bytes, std::uint64_t) { put(data, bytes); }

void StreamWriter::begin_pages() {
    unsigned char head[5] = {part_last};
    put_be(head + 1, section_, 4);
    put(head, sizeof head);
}

void StreamWriter::page(std::size_t block, std::uint64_t page, const unsigned char* data) {
    unsigned char record[8 + 1 + 255];
    const bool same = block == block_;
    std::uint64_t flags = data ? flag_page : flag_zero;
    if (same) flags |= flag_same_block;
    put_be(record, page * page_bytes | flags, 8);
    std::size_t n = 8;
    if (!same) {
        const std::string& name = blocks_[block];
        record[n++] = static_cast<unsigned char>(name.size());
        std::memcpy(record + n, name.data(), name.size());
        n += name.size();
        block_ = block;
    }
    put(record, n);
    const unsigned char fill = 0;
    if (data)
        put(data, page_bytes);
    else
        put(&fill, 1);
}

void StreamWriter::end_pages() {
    unsigned char tail[8 + 5];
    put_be(tail, flag_end, 8);
    tail[8] = part_footer;
    put_be(tail + 9, section_, 4);
    put(tail, sizeof tail);
}

}  // namespace dmchain::guest
