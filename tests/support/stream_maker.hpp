// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: migration streams as QEMU writes them, or wrong ones, piece by piece.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dmchain::test {

class StreamMaker {
public:
    static constexpr std::uint64_t page = 4096;

    static std::string be(std::uint64_t n, unsigned bytes) {
        std::string out;
        while (bytes--) out += static_cast<char>(n >> (8 * bytes));
        return out;
    }
    static std::string counted(const std::string& s) { return be(s.size(), 1) + s; }

    std::string bytes;
    std::uint64_t mapped_alignment = 1u << 20;  // of the pages of a block

    StreamMaker& header(const std::string& machine = "pc-q35-7.2") {
        bytes += "QEVM" + be(3, 4) + be(7, 1) + be(machine.size(), 4) + machine;
        return *this;
    }
    // Behind the header.
    StreamMaker& capabilities(const std::vector<std::string>& names) {
        bytes += be(5, 1) + counted("configuration/capabilities") + be(1, 4) + be(names.size(), 4);
        for (const std::string& name : names) bytes += counted(name);
        return *this;
    }
    StreamMaker& start(const std::vector<std::pair<std::string, std::uint64_t>>& blocks, const std::string& name = "ram") {
        std::uint64_t total = 0;
        for (const auto& b : blocks) total += b.second;
        bytes += be(1, 1) + be(2, 4) + counted(name) + be(0, 4) + be(4, 4) + be(total | 4, 8);
        for (const auto& [block, size] : blocks) bytes += counted(block) + be(size, 8);
        bytes += be(0x10, 8);
        return footer();
    }
    // Memory of a mapped-ram file, whose pages are given: "" for one of zeroes, which is not there.
    StreamMaker& start_mapped(const std::vector<std::pair<std::string, std::vector<std::string>>>& blocks) {
        std::uint64_t total = 0;
        for (const auto& b : blocks) total += b.second.size() * page;
        bytes += be(1, 1) + be(2, 4) + counted("ram") + be(0, 4) + be(4, 4) + be(total | 4, 8);
        for (const auto& [block, pages] : blocks) {
            bytes += counted(block) + be(pages.size() * page, 8);
            const std::uint64_t bitmap_at = bytes.size() + 28, bitmap = (pages.size() + 63) / 64 * 8;
            const std::uint64_t pages_at = (bitmap_at + bitmap + mapped_alignment - 1) / mapped_alignment * mapped_alignment;
            bytes += be(1, 4) + be(page, 8) + be(bitmap_at, 8) + be(pages_at, 8);
            bytes.resize(pages_at + pages.size() * page);
            for (std::size_t p = 0; p < pages.size(); p++) {
                if (pages[p].empty()) continue;
                bytes[bitmap_at + p / 8] = static_cast<char>(bytes[bitmap_at + p / 8] | 1 << (p % 8));
                bytes.replace(pages_at + p * page, page, pages[p]);
            }
        }
        bytes += be(0x10, 8);
        return footer();
    }
    StreamMaker& begin(bool last = false) {
        bytes += be(last ? 3 : 2, 1) + be(2, 4);
        return *this;
    }
    // @block: "" for the one before.
    StreamMaker& data(const std::string& block, std::uint64_t number, const std::string& content) {
        bytes += be(number * page | 0x08 | (block.empty() ? 0x20 : 0), 8) + (block.empty() ? "" : counted(block)) + content;
        return *this;
    }
    StreamMaker& zero(const std::string& block, std::uint64_t number, char fill = 0) {
        bytes += be(number * page | 0x02 | (block.empty() ? 0x20 : 0), 8) + (block.empty() ? "" : counted(block)) + fill;
        return *this;
    }
    StreamMaker& end() {
        bytes += be(0x10, 8);
        return footer();
    }
    StreamMaker& footer() {
        bytes += be(0x7e, 1) + be(2, 4);
        return *this;
    }
    StreamMaker& devices() {
        const std::string description = "{\"devices\": []}";
        bytes += be(4, 1) + "some devices" + be(0, 1) + be(6, 1) + be(description.size(), 4) + description;
        return *this;
    }

    static std::string filled(char c) { return std::string(page, c); }
    StreamMaker& command(std::uint64_t number, const std::string& content = "") {
        bytes += be(8, 1) + be(number, 2) + be(content.size(), 2) + content;
        return *this;
    }
    // A machine with memory of 8 pages and firmware of 1; page 3 is there twice. @switchover: with QEMU 10's command.
    static StreamMaker small(bool switchover = false) {
        StreamMaker s;
        s.header().start({{"pc.ram", 8 * page}, {"pc.bios", page}}).begin();
        s.data("pc.ram", 0, filled('a')).zero("", 1).data("", 2, filled('c')).data("", 3, filled('d'));
        s.zero("", 4).zero("", 5).zero("", 6).zero("", 7).data("pc.bios", 0, filled('b')).end();
        if (switchover) s.command(11);
        s.begin(true).data("pc.ram", 3, filled('x')).end().devices();
        return s;
    }
    // The same memory in a mapped-ram file. @before: what comes before the stream.
    static StreamMaker small_mapped(const std::string& before = "", std::uint64_t alignment = 1u << 20) {
        StreamMaker s;
        s.mapped_alignment = alignment;
        s.bytes = before;
        s.header().capabilities({"mapped-ram"});
        s.start_mapped({{"pc.ram", {filled('a'), "", filled('c'), filled('x'), "", "", "", ""}}, {"pc.bios", {filled('b')}}});
        s.begin().end().command(11).begin(true).end().devices();
        return s;
    }
    // What libvirt puts before a stream. @format: of the stream, as libvirt counts them.
    static std::string libvirt_header(unsigned format, const std::string& xml = "<domain/>",
                                      const std::string& magic = "LibvirtQemudSave") {
        const auto le = [](std::uint64_t n) {
            const std::string b = be(n, 4);
            return std::string(b.rbegin(), b.rend());
        };
        const std::string padded = xml + std::string(1000, '\0');
        return magic + le(2) + le(padded.size()) + le(1) + le(format) + le(0) + std::string(56, '\0') + padded;
    }
};

}  // namespace dmchain::test
