// SPDX-License-Identifier: GPL-2.0-or-later
// compare FILE FILE: whether two migration streams have the same memory and devices; pages that the guest does not use may be zero in
// the second one.
#include <cstdio>
#include <cstring>

#include "guest/classify.hpp"
#include "io/error.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 3) return 2;
    try {
        guest::Candidates candidates;
        const guest::Stream a(File(argv[1]), [&](std::size_t block, std::uint64_t page, const unsigned char* data) {
            candidates.look_at(block, page, data);
        });
        const guest::Stream b{File(argv[2])};
        const guest::PageMap map = guest::classify(a, candidates);
        std::vector<unsigned char> x(guest::page_bytes), y(guest::page_bytes);
        std::uint64_t different = 0;
        for (std::size_t i = 0; i < a.blocks().size(); i++) {
            if (b.blocks().size() != a.blocks().size() || b.blocks()[i].bytes != a.blocks()[i].bytes) return 1;
            for (std::uint64_t p = 0; p < a.blocks()[i].pages(); p++) {
                a.read_page(i, p, x.data());
                const bool there = b.read_page(i, p, y.data());
                if (x == y || (!there && guest::is_unused(map.blocks[i][p]))) continue;
                if (different++ < 5)
                    std::printf("page %lu of %s (%s) is another\n", p, a.blocks()[i].name.c_str(), name_of(map.blocks[i][p]));
            }
        }
        const std::uint64_t rest = a.file().size() - a.tail_offset();
        std::vector<unsigned char> s(rest), t(rest);
        if (b.file().size() - b.tail_offset() != rest) different++;
        a.file().read(s.data(), rest, a.tail_offset());
        b.file().read(t.data(), rest, b.tail_offset());
        if (s != t) std::printf("the devices are others\n");
        return different || s != t ? 1 : 0;
    } catch (const Error& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
