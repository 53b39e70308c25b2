// SPDX-License-Identifier: GPL-2.0-or-later
// usage: replay LOG count
//        replay LOG apply DEVICE FROM TO
//
// Reads what dm-log-writes logged on LOG (kernel: Documentation/admin-guide/device-mapper/log-writes.rst). "count" prints
// one line for each entry: number, flags (f flush, u FUA, d discard, m mark, - none), and a mark's name. "apply" does the
// entries FROM..TO-1 on DEVICE, which has those before FROM: what was on the disk at that point.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

// drivers/md/dm-log-writes.c: all little-endian, as this machine is.
struct Super {
    std::uint64_t magic, version, entries;
    std::uint32_t sector_bytes;
};
struct Entry {
    std::uint64_t sector, sectors, flags, data_bytes;
};
constexpr std::uint64_t log_magic = 0x6a736677736872ull;
constexpr std::uint64_t flag_flush = 1, flag_fua = 2, flag_discard = 4, flag_mark = 8;

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "replay: %s: %s\n", what.c_str(), errno ? std::strerror(errno) : "not what was expected");
    std::exit(1);
}

void read_all(int fd, void* p, std::size_t n, std::uint64_t at) {
    for (std::size_t got = 0; got < n;) {
        const ssize_t r = ::pread(fd, static_cast<char*>(p) + got, n - got, static_cast<off_t>(at + got));
        if (r <= 0) die("the log ends early");
        got += static_cast<std::size_t>(r);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 2 ? argv[2] : "";
    if (!(what == "count" && argc == 3) && !(what == "apply" && argc == 6)) {
        std::fprintf(stderr, "usage: replay LOG count | replay LOG apply DEVICE FROM TO\n");
        return 2;
    }
    const int log = ::open(argv[1], O_RDONLY | O_CLOEXEC);
    if (log < 0) die(argv[1]);
    Super super{};
    read_all(log, &super, sizeof super, 0);
    errno = 0;
    if (super.magic != log_magic || super.version != 1) die(std::string(argv[1]) + ": not a log of writes");
    const int out = what == "apply" ? ::open(argv[3], O_RDWR | O_CLOEXEC) : -1;
    if (what == "apply" && out < 0) die(argv[3]);
    const std::uint64_t from = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;
    const std::uint64_t to = argc > 5 ? std::strtoull(argv[5], nullptr, 10) : super.entries;

    std::uint64_t at = super.sector_bytes;
    std::vector<char> data;
    for (std::uint64_t i = 0; i < super.entries && i < to; i++) {
        std::vector<char> head(super.sector_bytes);
        read_all(log, head.data(), head.size(), at);
        Entry e;
        std::memcpy(&e, head.data(), sizeof e);
        at += super.sector_bytes;
        const std::uint64_t bytes = e.sectors * super.sector_bytes;
        const bool has_data = !(e.flags & flag_discard) && e.sectors;
        if (what == "count") {
            std::string flags;
            if (e.flags & flag_flush) flags += 'f';
            if (e.flags & flag_fua) flags += 'u';
            if (e.flags & flag_discard) flags += 'd';
            if (e.flags & flag_mark) flags += 'm';
            std::printf("%llu %s %.*s\n", static_cast<unsigned long long>(i), flags.empty() ? "-" : flags.c_str(),
                        e.flags & flag_mark ? static_cast<int>(e.data_bytes) : 0, head.data() + sizeof e);
        } else if (i >= from && e.flags & flag_discard && e.sectors) {
            std::uint64_t range[2] = {e.sector * super.sector_bytes, bytes};
            if (::ioctl(out, BLKZEROOUT, range) != 0) die("applying a discard");
        } else if (i >= from && has_data) {
            data.resize(bytes);
            read_all(log, data.data(), bytes, at);
            if (::pwrite(out, data.data(), bytes, static_cast<off_t>(e.sector * super.sector_bytes)) !=
                static_cast<ssize_t>(bytes))
                die("applying a write");
        }
        if (has_data) at += bytes;
    }
    if (out >= 0 && ::fsync(out) != 0) die(argv[3]);
    return 0;
}
