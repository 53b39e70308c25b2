// SPDX-License-Identifier: GPL-2.0-or-later
// damage FILE SEED: changes bytes in the pages of a migration stream where it hurts: in the page with VMCOREINFO (of every second
// seed), in pages with types, and in one page of 64 of all. The stream stays one.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>

#include "guest/image.hpp"
#include "guest/vmcoreinfo.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 3) return 2;
    const guest::Image image = guest::read_image(guest::Source(File(argv[1])));
    const int fd = open(argv[1], O_WRONLY | O_CLOEXEC);
    if (fd < 0) return 1;
    std::mt19937_64 random(std::strtoul(argv[2], nullptr, 10));
    const bool info = random() % 2;
    std::vector<unsigned char> page(guest::page_bytes);
    for (std::size_t b = 0; b < image.blocks.size(); b++)
        for (std::uint64_t p = 0; p < image.blocks[b].pages(); p++) {
            if (!image.read_page(b, p, page.data())) continue;
            // BTF begins so; what follows is its types.
            const bool types = memmem(page.data(), page.size(), "\x9f\xeb\x01\x00\x18\x00\x00\x00", 8) != nullptr;
            unsigned changes = random() % 64 == 0;
            if (types || (info && guest::VmcoreInfo::begins(page.data()))) changes = 2;
            while (changes--) {
                const auto byte = static_cast<unsigned char>(random());
                const std::uint64_t at = image.blocks[b].where[p] + 32 + random() % (guest::page_bytes - 32);
                if (pwrite(fd, &byte, 1, static_cast<off_t>(at)) != 1) return 1;
            }
        }
    return close(fd);
}
