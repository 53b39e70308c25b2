// SPDX-License-Identifier: GPL-2.0-or-later
// damage FILE SEED: changes bytes of a migration stream where it hurts: in pages that have VMCOREINFO, symbols and types, in the
// pages around them, and in one page of 64 of the rest.
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const int fd = open(argv[1], O_RDWR);
    struct stat st {};
    if (fd < 0 || fstat(fd, &st) != 0) return 1;
    const auto size = static_cast<std::size_t>(st.st_size);
    auto* const bytes = static_cast<unsigned char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (bytes == MAP_FAILED) return 1;
    std::mt19937_64 random(std::strtoul(argv[2], nullptr, 10));
    const auto change = [&](std::size_t from, std::size_t to, unsigned times) {
        while (times--) bytes[from + random() % (to - from)] = static_cast<unsigned char>(random());
    };
    // Past the head of the stream, so that it stays one.
    const std::size_t head = 4096, piece = 4096;
    const std::size_t info = random() % 2;
    for (std::size_t at = head; at + 2 * piece < size; at += piece) {
        const void* const note = memmem(bytes + at, piece, "VMCOREINFO\0\0OSRELEASE", 21);
        // BTF begins so.
        const void* const types = memmem(bytes + at, piece, "\x9f\xeb\x01\x00\x18\x00\x00\x00", 8);
        if (note && info) change(at + 64, at + piece, 2);
        if (types) change(at + 32, at + 2 * piece, 4);
        // Not the eight bytes before each page, nearly always.
        if (random() % 64 == 0) change(at, at + piece, 1);
    }
    return 0;
}
