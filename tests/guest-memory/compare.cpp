// SPDX-License-Identifier: GPL-2.0-or-later
// compare [--firecracker] FILE FILE: whether two memory images have the same memory, and the same devices behind it; pages that
// the guest does not use may be zero in the second one.
#include <cstdio>
#include <cstring>

#include "guest/classify.hpp"
#include "guest/firecracker.hpp"
#include "guest/open.hpp"
#include "io/error.hpp"

namespace {

using namespace dmchain;

guest::Image read(bool firecracker, const char* file, const guest::Seen& seen = {}) {
    if (firecracker) return guest::read_firecracker(File(file), {}, "", seen);
    return guest::read_image(guest::open_source(file), seen);
}

std::vector<unsigned char> devices(const guest::Image& image) {
    if (image.others.empty()) return {};
    const guest::Range& last = image.others.back();
    std::vector<unsigned char> out(last.end - last.begin);
    image.source.read(out.data(), out.size(), last.begin);
    return out;
}

}  // namespace

int main(int argc, char** argv) {
    const bool firecracker = argc == 4 && std::strcmp(argv[1], "--firecracker") == 0;
    if (argc != 3 && !firecracker) return 2;
    try {
        guest::Candidates candidates;
        const guest::Image a = read(
            firecracker, argv[argc - 2],
            [&](std::size_t block, std::uint64_t page, const unsigned char* data) { candidates.look_at(block, page, data); });
        const guest::Image b = read(firecracker, argv[argc - 1]);
        const guest::PageMap map = guest::classify(a, candidates);
        std::vector<unsigned char> x(guest::page_bytes), y(guest::page_bytes);
        std::uint64_t different = 0;
        for (std::size_t i = 0; i < a.blocks.size(); i++) {
            if (b.blocks.size() != a.blocks.size() || b.blocks[i].bytes != a.blocks[i].bytes) return 1;
            for (std::uint64_t p = 0; p < a.blocks[i].pages(); p++) {
                a.read_page(i, p, x.data());
                const bool there = b.read_page(i, p, y.data());
                if (x == y || (!there && guest::is_unused(map.blocks[i][p]))) continue;
                if (different++ < 5)
                    std::printf("page %lu of %s (%s) is another\n", p, a.blocks[i].name.c_str(), name_of(map.blocks[i][p]));
            }
        }
        if (different) std::printf("%lu pages differ\n", different);
        const bool same_devices = devices(a) == devices(b);
        if (!same_devices) std::printf("the devices are others\n");
        return different || !same_devices ? 1 : 0;
    } catch (const Error& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
