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

    StreamMaker& header(const std::string& machine = "pc-q35-7.2") {
        bytes += "QEVM" + be(3, 4) + be(7, 1) + be(machine.size(), 4) + machine;
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
    // A machine with memory of 8 pages and firmware of 1; page 3 is there twice.
    static StreamMaker small() {
        StreamMaker s;
        s.header().start({{"pc.ram", 8 * page}, {"pc.bios", page}}).begin();
        s.data("pc.ram", 0, filled('a')).zero("", 1).data("", 2, filled('c')).data("", 3, filled('d'));
        s.zero("", 4).zero("", 5).zero("", 6).zero("", 7).data("pc.bios", 0, filled('b')).end();
        s.begin(true).data("pc.ram", 3, filled('x')).end().devices();
        return s;
    }
};

}  // namespace dmchain::test
