// SPDX-License-Identifier: GPL-2.0-or-later
// readcheck DEVICE RAW: compares a device with the raw file it must read as, by sequential, random,
// sector-aligned and concurrent direct reads, and says precisely where they differ first. Run by the
// tests, mostly inside their virtual machines.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "prng.hpp"

namespace {

using gen::u64;
using gen::u8;

constexpr u64 sector = 512;

class Source {
public:
    Source(const std::string& path, bool direct) : path_(path) {
        fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (fd_ < 0) throw std::runtime_error(fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
        struct stat s;
        if (::fstat(fd_, &s) != 0) throw std::runtime_error(fmt::format("{}: {}", path, std::strerror(errno)));
        size_ = static_cast<u64>(s.st_size);
        if (S_ISBLK(s.st_mode) && ::ioctl(fd_, BLKGETSIZE64, &size_) != 0)
            throw std::runtime_error(fmt::format("{}: cannot tell its size: {}", path, std::strerror(errno)));
    }
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    ~Source() { ::close(fd_); }

    u64 size() const { return size_; }
    const std::string& path() const { return path_; }

    // Beyond the end of the source there are zeroes.
    void read(u64 at, u8* to, u64 bytes) const {
        u64 got = 0;
        while (got < bytes && at + got < size_) {
            const ssize_t n = ::pread(fd_, to + got, bytes - got, static_cast<off_t>(at + got));
            if (n < 0)
                throw std::runtime_error(
                    fmt::format("{}: reading {} bytes at {}: {}", path_, bytes - got, at + got, std::strerror(errno)));
            if (n == 0) throw std::runtime_error(fmt::format("{}: ends at {}, its size is {}", path_, at + got, size_));
            got += static_cast<u64>(n);
        }
        if (got < bytes) std::memset(to + got, 0, bytes - got);
    }
    // The first place from `at` on that holds data; the size if there is none.
    u64 next_data(u64 at) const {
        const off_t found = ::lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
        return found < 0 ? size_ : static_cast<u64>(found);
    }
    // The end of the data that is at `at`.
    u64 data_end(u64 at) const {
        const off_t found = ::lseek(fd_, static_cast<off_t>(at), SEEK_HOLE);
        return found < 0 ? size_ : static_cast<u64>(found);
    }

private:
    std::string path_;
    int fd_;
    u64 size_;
};

struct Buffer {
    explicit Buffer(u64 bytes) : data(static_cast<u8*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)), &std::free) {}
    std::unique_ptr<u8, decltype(&std::free)> data;
};

class Comparison {
public:
    Comparison(const Source& device, const Source& raw, u64 longest) : device_(device), raw_(raw), longest_(longest) {}

    class Reader {
    public:
        Reader(const Comparison& c, const char* pass) : c_(c), pass_(pass), got_(c.longest_), want_(c.longest_) {}
        void check(u64 at, u64 bytes) {
            // What a read leaves untouched must not pass for what it should have brought.
            std::memset(got_.data.get(), 0xa5, bytes);
            c_.device_.read(at, got_.data.get(), bytes);
            c_.raw_.read(at, want_.data.get(), bytes);
            if (std::memcmp(got_.data.get(), want_.data.get(), bytes) != 0) differ(at, bytes);
        }

    private:
        [[noreturn]] void differ(u64 at, u64 bytes) const {
            const u8 *got = got_.data.get(), *want = want_.data.get();
            u64 first = 0;
            while (got[first] == want[first]) first++;
            u64 sectors = 0, last = 0;
            for (u64 s = 0; s < bytes; s += sector) {
                if (std::memcmp(got + s, want + s, sector) == 0) continue;
                sectors++;
                last = s;
            }
            const auto hex = [&](const u8* from) {
                std::string text;
                for (u64 i = first; i < bytes && i < first + 16; i++) text += fmt::format("{:02x} ", from[i]);
                return text;
            };
            throw std::runtime_error(fmt::format(
                "{}: differs from {} at byte {} ({:#x}, sector {}), in a {} read of {} bytes at {} ({:#x}); {} of its {} "
                "sectors differ, up to sector {}\n  found    {}\n  expected {}",
                c_.device_.path(), c_.raw_.path(), at + first, at + first, (at + first) / sector, pass_, bytes, at, at, sectors,
                bytes / sector, (at + last) / sector, hex(got), hex(want)));
        }
        const Comparison& c_;
        const char* pass_;
        Buffer got_, want_;
    };

private:
    const Source& device_;
    const Source& raw_;
    const u64 longest_;
};

}  // namespace

int main(int argc, char** argv) {
    std::string device_path, raw_path;
    u64 seed = 1, reads = 2000, longest = 1 << 20, part = 0;
    unsigned threads = 4;
    bool data_only = false, buffered = false;
    CLI::App app{"Compares a device with the raw file that it must read as"};
    app.add_option("DEVICE", device_path, "A block device, or a file")->required();
    app.add_option("RAW", raw_path, "What it must read as; beyond its end, zeroes")->required();
    app.add_option("--seed", seed, "For the random reads");
    app.add_option("--reads", reads, "Random reads of each kind");
    app.add_option("--threads", threads, "Concurrent readers")->check(CLI::Range(1, 256));
    app.add_option("--longest", longest, "Bytes of the longest read")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(u64{4096}, u64{64} << 20));
    app.add_option("--sequential-step", part, "Bytes of each sequential read (default: --longest)")
        ->transform(CLI::AsSizeValue(false));
    app.add_flag("--data-only", data_only, "Sequentially read only where RAW has data, and around it: for huge disks");
    app.add_flag("--buffered", buffered, "Through the page cache instead of direct");
    CLI11_PARSE(app, argc, argv);
    try {
        const Source device(device_path, !buffered), raw(raw_path, false);
        const u64 size = device.size(), expected = (raw.size() + sector - 1) / sector * sector;
        if (size != expected)
            throw std::runtime_error(fmt::format("{}: has {} bytes, expected {}, the size of {} in whole sectors", device_path,
                                                 size, expected, raw_path));
        if (size == 0) throw std::runtime_error(fmt::format("{}: is empty: there is nothing to compare", device_path));
        longest = longest / sector * sector;
        if (part == 0 || part > longest) part = longest;
        part = std::max(sector, part / sector * sector);
        const Comparison comparison(device, raw, longest);

        u64 bytes = 0, random_reads = 0;
        {
            Comparison::Reader reader(comparison, "sequential");
            for (u64 at = 0; at < size;) {
                u64 end = size;
                if (data_only) {
                    // From a little before each piece of data to a little after it.
                    const u64 data = raw.next_data(at);
                    if (data >= raw.size()) break;
                    at = std::max(at, data > part ? (data - part) / sector * sector : 0);
                    end = std::min(size, (raw.data_end(data) + part) / sector * sector);
                }
                for (; at < end; at += std::min(part, end - at)) {
                    reader.check(at, std::min(part, end - at));
                    bytes += std::min(part, end - at);
                }
            }
        }
        // Small reads, and reads of any length, at any sector; half of them where there is data.
        const auto random_part = [&](const char* pass, u64 key, u64 count) {
            gen::Prng random(key);
            Comparison::Reader reader(comparison, pass);
            for (u64 i = 0; i < count; i++) {
                u64 at = random.below(size / sector) * sector;
                if (random.chance(50)) at = std::min(raw.next_data(at) / sector * sector, size - sector);
                if (random.chance(30)) at -= std::min(at, random.below(64) * sector);
                u64 length = random.chance(50) ? 4096 : sector * random.between(1, longest / sector);
                if (random.chance(30)) length = std::min(longest, sector * random.between(1, 300));
                reader.check(at, std::min(length, size - at));
            }
        };
        random_part("random", seed, reads);
        random_reads += reads;

        std::mutex lock;
        std::string failure;
        std::vector<std::thread> readers;
        for (unsigned t = 0; t < threads; t++) {
            readers.emplace_back([&, t] {
                try {
                    random_part("concurrent random", seed * 1000 + t + 1, reads / threads + 1);
                } catch (const std::exception& e) {
                    const std::lock_guard hold(lock);
                    if (failure.empty()) failure = e.what();
                }
            });
        }
        for (auto& r : readers) r.join();
        if (!failure.empty()) throw std::runtime_error(failure);
        random_reads += (reads / threads + 1) * threads;
        fmt::print("{}: equals {}: {} bytes sequentially, {} random reads, {} of them concurrent\n", device_path, raw_path, bytes,
                   random_reads, (reads / threads + 1) * threads);
    } catch (const std::exception& e) {
        fmt::print(stderr, "readcheck: {}\n", e.what());
        return 1;
    }
}
