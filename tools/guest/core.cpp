// SPDX-License-Identifier: GPL-2.0-or-later
// See core.hpp. The largest block is the memory that the kernel manages: what is below 4 GiB from address 0 on, then what is from
// 4 GiB on. Other pieces (firmware, video) are blocks of their own.
#include "guest/core.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

constexpr std::uint64_t high = std::uint64_t{1} << 32;
// A machine has a few dozen pieces at most.
constexpr std::uint64_t most_segments = 4096;
// Between these a PC has video and firmware, but memory of the machine is counted through.
constexpr std::uint64_t video_begin = 0xa0000, video_end = 0x100000;
constexpr char compressed_magic[] = "KDUMP   ";

struct Piece {
    std::uint64_t physical, bytes, at;  // at: byte of the file
    std::uint64_t end() const { return physical + bytes; }
};

class Reader {
public:
    explicit Reader(Image& image) : image_(image), source_(image.source), name_(escaped(image.source.name())) {}

    void run() {
        read_header();
        read_segments();
        std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.physical < b.physical; });
        for (std::size_t i = 1; i < pieces_.size(); i++)
            if (pieces_[i].physical < pieces_[i - 1].end())
                throw damaged("{}: has memory at {:#x} twice, at byte {} and at byte {}", name_, pieces_[i].physical,
                              pieces_[i - 1].at, pieces_[i].at);
        make_blocks();
    }

private:
    void read_header() {
        if (source_.size() < sizeof header_) throw damaged("{}: was cut off: ends in the ELF header", name_);
        source_.read(&header_, sizeof header_, 0);
        const auto& e = header_.e_ident;
        if (std::memcmp(e, ELFMAG, SELFMAG) != 0)
            throw failed(
                "{}: is a compressed dump, which is not read: make one in the format elf (virsh dump --memory-only --format elf)",
                name_);
        if (e[EI_CLASS] != ELFCLASS64 || e[EI_DATA] != ELFDATA2LSB || header_.e_machine != EM_X86_64 ||
            header_.e_type != ET_CORE || header_.e_phentsize != sizeof(Elf64_Phdr))
            throw failed("{}: is an ELF file of class {}, order {}, type {}, machine {}, expected a core of x86-64", name_,
                         e[EI_CLASS], e[EI_DATA], header_.e_type, header_.e_machine);
    }

    void read_segments() {
        std::uint64_t count = header_.e_phnum;
        if (count == PN_XNUM) {
            // Too many for the header: the first section has the number.
            Elf64_Shdr section;
            require(header_.e_shoff, sizeof section, "its first section");
            source_.read(&section, sizeof section, header_.e_shoff);
            count = section.sh_info;
        }
        if (count == 0 || count > most_segments)
            throw damaged("{}: has {} segments, expected 1 to {}", name_, count, most_segments);
        std::vector<Elf64_Phdr> segments(count);
        require(header_.e_phoff, count * sizeof segments[0], "its segments");
        source_.read(segments.data(), count * sizeof segments[0], header_.e_phoff);
        std::uint64_t sum = 0;
        for (const Elf64_Phdr& s : segments) {
            if (s.p_type == PT_NOTE && s.p_filesz) {
                require(s.p_offset, s.p_filesz, "its notes");
                image_.processors = Range{s.p_offset, s.p_offset + s.p_filesz};
            }
            if (s.p_type != PT_LOAD || s.p_filesz == 0) continue;
            require(s.p_offset, s.p_filesz, "memory");
            sum += s.p_filesz;
            if (s.p_paddr % page_bytes || s.p_filesz % page_bytes || s.p_paddr > most_memory || sum > source_.size())
                throw damaged(
                    "{}: says that {} bytes at byte {} are the memory at {:#x}, expected whole pages below {:#x}, each once",
                    name_, s.p_filesz, s.p_offset, s.p_paddr, most_memory);
            pieces_.push_back({s.p_paddr, s.p_filesz, s.p_offset});
        }
        if (pieces_.empty()) throw damaged("{}: has no memory in it", name_);
    }

    void require(std::uint64_t at, std::uint64_t bytes, const char* what) const {
        if (at > source_.size() || bytes > source_.size() - at)
            throw damaged("{}: was cut off: ends at byte {}, expected {} bytes of {} at byte {}", name_, source_.size(), bytes,
                          what, at);
    }

    void make_blocks() {
        RamBlock main;
        main.name = "memory";
        std::uint64_t end = 0;  // of what is counted through, below 4 GiB
        const auto follows = [&](const Piece& p) {
            return p.physical < high && (p.physical == end || (end >= video_begin && p.physical <= video_end));
        };
        std::size_t i = 0;
        for (; i < pieces_.size() && follows(pieces_[i]); i++) {
            end = pieces_[i].end();
            main.where.resize(end / page_bytes, RamBlock::absent);
            place(main, pieces_[i], pieces_[i].physical / page_bytes);
        }
        const std::uint64_t low = std::min(end, high);
        image_.low = low;
        std::vector<RamBlock> rest;
        for (; i < pieces_.size(); i++) {
            const Piece& p = pieces_[i];
            const std::size_t pages = main.where.size();
            if (pages && p.physical == high + (pages * page_bytes - low)) {
                main.where.resize(pages + p.bytes / page_bytes);
                place(main, p, pages);
                continue;
            }
            RamBlock& other = rest.emplace_back();
            other.name = fmt::format("{:#x}", p.physical);
            other.where.resize(p.bytes / page_bytes);
            place(other, p, 0);
        }
        if (!main.where.empty()) image_.blocks.push_back(std::move(main));
        std::move(rest.begin(), rest.end(), std::back_inserter(image_.blocks));
        for (RamBlock& b : image_.blocks) b.bytes = b.where.size() * page_bytes;
    }

    static void place(RamBlock& block, const Piece& p, std::size_t first) {
        for (std::uint64_t n = 0; n < p.bytes / page_bytes; n++) block.where[first + n] = p.at + n * page_bytes;
    }

    Image& image_;
    const Source& source_;
    const std::string name_;
    Elf64_Ehdr header_{};
    std::vector<Piece> pieces_;
};

}  // namespace

bool is_core(const Source& source) {
    char head[sizeof compressed_magic - 1];
    if (source.size() < sizeof head) return false;
    source.read(head, sizeof head, 0);
    return std::memcmp(head, ELFMAG, SELFMAG) == 0 || std::memcmp(head, compressed_magic, sizeof head) == 0;
}

void read_core(Image& image, const Seen& seen, const Done& progress) {
    image.form = Form::core;
    Reader(image).run();
    see_pages(image, true, seen, progress);
}

}  // namespace dmchain::guest
