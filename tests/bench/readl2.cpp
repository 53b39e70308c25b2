// SPDX-License-Identifier: GPL-2.0-or-later
// readl2 IMAGE: reads every L2 table of a qcow2 image and does nothing with them: the least that building
// an index can cost. Prints the seconds it took. A peer for the benchmark of the builder.
#include <endian.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

int main(int argc, char** argv) {
    const auto start = std::chrono::steady_clock::now();
    const int fd = argc == 2 ? ::open(argv[1], O_RDONLY) : -1;
    std::uint8_t header[104];
    if (fd < 0 || ::pread(fd, header, sizeof header, 0) != sizeof header) {
        fmt::print(stderr, "usage: readl2 IMAGE (a qcow2 image)\n");
        return 1;
    }
    std::uint32_t bits, entries;
    std::uint64_t offset;
    std::memcpy(&bits, header + 20, 4);
    std::memcpy(&entries, header + 36, 4);
    std::memcpy(&offset, header + 40, 8);
    std::vector<std::uint64_t> l1(be32toh(entries));
    std::vector<std::uint64_t> l2((std::size_t{1} << be32toh(bits)) / 8);
    const auto l1_bytes = static_cast<ssize_t>(l1.size() * 8), l2_bytes = static_cast<ssize_t>(l2.size() * 8);
    if (::pread(fd, l1.data(), l1.size() * 8, static_cast<off_t>(be64toh(offset))) != l1_bytes) return 1;
    std::uint64_t tables = 0;
    for (const std::uint64_t e : l1) {
        const std::uint64_t at = be64toh(e) & 0x00fffffffffffe00ull;
        if (!at) continue;
        if (::pread(fd, l2.data(), l2.size() * 8, static_cast<off_t>(at)) != l2_bytes) return 1;
        tables++;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    fmt::print("{:.4f} {}\n", took.count(), tables * l2.size() * 8);
}
