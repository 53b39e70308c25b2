// SPDX-License-Identifier: GPL-2.0-or-later
// A chain of what a command did to a disk, step by step: what changed is found by comparing the disk with a copy.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "chains.hpp"
#include "plain_image.hpp"

namespace gen {

namespace {

// All of a file in memory: shared with it, or (no file) private and zero.
class Mapping {
public:
    Mapping(int fd, u64 bytes) : bytes_(bytes) {
        void* p = ::mmap(nullptr, bytes, fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ,
                         fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) throw std::runtime_error("cannot map the disk into memory");
        data_ = static_cast<u8*>(p);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() { ::munmap(data_, bytes_); }
    u8* at(u64 offset) const { return data_ + offset; }

private:
    u64 bytes_;
    u8* data_;
};

}  // namespace

void recorded_chain(const std::string& out, const std::string& disk, unsigned depth, const std::string& command,
                    unsigned cluster_bits) {
    const u64 unit = u64{1} << cluster_bits;
    const File file(disk, O_RDONLY);
    const u64 size = file.size();
    if (size == 0 || size % 512) throw std::runtime_error(disk + ": its size is not a multiple of 512");
    const u64 clusters = (size + unit - 1) / unit;
    const Mapping now(file.descriptor(), size), before(-1, size);
    const auto bytes_of = [&](u64 c) { return std::min(unit, size - c * unit); };
    const unsigned workers = std::max(1u, std::thread::hardware_concurrency());
    std::vector<char> changed(clusters);
    u64 stored = 0;
    for (unsigned n = 0; n < depth; n++) {
        if (std::system((command + " " + std::to_string(n)).c_str()) != 0)
            throw std::runtime_error("step " + std::to_string(n) + " failed: " + command);
        if (file.size() != size) throw std::runtime_error("step " + std::to_string(n) + " changed the size of " + disk);
        std::atomic<u64> next{0};
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < workers; t++)
            threads.emplace_back([&] {
                constexpr u64 turn = 64;
                for (u64 c; (c = next.fetch_add(turn)) < clusters;)
                    for (u64 i = c; i < std::min(c + turn, clusters); i++)
                        changed[i] = std::memcmp(now.at(i * unit), before.at(i * unit), bytes_of(i)) != 0;
            });
        for (auto& t : threads) t.join();

        PlainImage image(out + "/" + layer_name(n, depth), size, cluster_bits, n ? layer_name(n - 1, depth) : "");
        for (u64 c = 0; c < clusters; c++) {
            if (!changed[c]) continue;
            std::memcpy(before.at(c * unit), now.at(c * unit), bytes_of(c));
            image.file().write(image.add(c), {before.at(c * unit), bytes_of(c)});
            stored++;
        }
        image.finish();
    }
    std::cout << out << "/top.qcow2: " << depth << " layers, " << size << " bytes, " << stored << " clusters of " << unit
              << " bytes\n";
}

}  // namespace gen
