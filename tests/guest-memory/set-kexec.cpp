// SPDX-License-Identifier: GPL-2.0-or-later
// set-kexec FILE: in memory as it is, makes it so that the guest's kernel has loaded another one (kexec).
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "guest/firecracker.hpp"
#include "guest/kallsyms.hpp"
#include "guest/kernel.hpp"
#include "io/error.hpp"

int main(int argc, char** argv) {
    using namespace dmchain;
    if (argc != 2) return 2;
    try {
        guest::Candidates candidates;
        const guest::Image image = guest::read_firecracker(
            File(argv[1]), {}, "",
            [&](std::size_t block, std::uint64_t page, const unsigned char* data) { candidates.look_at(block, page, data); });
        const auto kernel = guest::Kernel::find(image, candidates);
        // The note may go on in the page behind.
        const std::uint64_t page = candidates.places().front().page;
        std::string note(2 * guest::page_bytes, '\0');
        image.read_page(0, page, note.data());
        image.read_page(0, page + 1, note.data() + guest::page_bytes);
        const auto* const bytes = reinterpret_cast<const unsigned char*>(note.data());
        const guest::VmcoreInfo info(note.substr(guest::VmcoreInfo::text_at, guest::VmcoreInfo::text_bytes(bytes)));
        std::map<std::string, std::uint64_t> symbols = {{"kexec_image", 0}};
        guest::find_symbols(info, kernel->paging(), symbols);
        const std::uint64_t physical = kernel->paging().physical(symbols["kexec_image"]);
        const auto of_block = kernel->memory().page_of(physical / guest::page_bytes);
        const int fd = open(argv[1], O_WRONLY | O_CLOEXEC);
        const std::uint64_t at = *of_block * guest::page_bytes + physical % guest::page_bytes;
        if (pwrite(fd, "loaded", 6, static_cast<off_t>(at)) != 6) return 1;
        return close(fd);
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
