// SPDX-License-Identifier: GPL-2.0-or-later
// usage: verify DEVICE HISTORY [PROMISE]
//
// Compares DEVICE with HISTORY (of stomp): each sector has what the last promised operation wrote there, or what a later one
// wrote; never anything else. PROMISE: the last one that counts (F<number> or U<number>; default: all that was promised,
// "-": none). With "all" as PROMISE every operation counts as durable. What nobody wrote reads zeroes.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "crash/history.hpp"

using namespace dmchain::crash;

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: verify DEVICE HISTORY [PROMISE]\n");
        return 2;
    }
    const std::vector<Event> events = read_history(argv[2]);
    const std::string last = argc > 3 ? argv[3] : "";
    const int fd = ::open(argv[1], O_RDONLY | O_CLOEXEC);
    const off_t size = fd < 0 ? -1 : ::lseek(fd, 0, SEEK_END);
    if (size < 0) {
        std::fprintf(stderr, "verify: %s: %s\n", argv[1], std::strerror(errno));
        return 2;
    }
    const std::uint64_t sectors = static_cast<std::uint64_t>(size) / sector_bytes;

    // Which operations are promised: all up to `flushed`, and those in `alone`.
    std::uint64_t flushed = 0;
    std::vector<std::uint64_t> alone;
    for (const Event& e : events) {
        if (last == "-") break;
        if (last == "all") flushed = std::max(flushed, e.seq);
        if (e.kind == 'f') flushed = std::max(flushed, e.seq);
        if (e.kind == 'u') alone.push_back(e.seq);
        if ((e.kind == 'f' || e.kind == 'u') && last == (e.kind == 'f' ? "F" : "U") + std::to_string(e.seq)) break;
    }
    std::sort(alone.begin(), alone.end());
    auto promised = [&](std::uint64_t seq) { return seq <= flushed || std::binary_search(alone.begin(), alone.end(), seq); };

    // Of each sector: the newest promised content (0: zeroes), and whether zeroes are allowed by a later operation.
    struct Cell {
        std::uint64_t base = 0;            // operation whose data is promised; 0: zeroes
        std::uint64_t at = 0;              // number of the promised operation
        std::vector<std::uint64_t> later;  // contents that it may have instead; 0: zeroes
    };
    std::vector<Cell> cells(sectors);
    for (const Event& e : events) {
        if (e.kind != 'w' && e.kind != 'z') continue;
        for (std::uint64_t s = e.sector; s < e.sector + e.count && s < sectors; s++) {
            const std::uint64_t content = e.kind == 'w' ? e.seq : 0;
            if (promised(e.seq)) {
                cells[s].base = content;
                cells[s].at = e.seq;
                cells[s].later.clear();
            } else {
                cells[s].later.push_back(content);
            }
        }
    }

    std::vector<unsigned char> data(1 << 20);
    unsigned char want[sector_bytes];
    std::uint64_t wrong = 0;
    for (std::uint64_t s = 0; s < sectors; s++) {
        const std::size_t in = static_cast<std::size_t>(s * sector_bytes % data.size());
        if (in == 0) {
            const std::size_t n = std::min<std::uint64_t>(data.size(), (sectors - s) * sector_bytes);
            for (std::size_t got = 0; got < n;) {
                const ssize_t r = ::pread(fd, data.data() + got, n - got, static_cast<off_t>(s * sector_bytes + got));
                if (r <= 0) {
                    std::fprintf(stderr, "verify: %s: at byte %zu: %s\n", argv[1],
                                 static_cast<std::size_t>(s * sector_bytes + got), r < 0 ? std::strerror(errno) : "ends early");
                    return 1;
                }
                got += static_cast<std::size_t>(r);
            }
        }
        auto is = [&](std::uint64_t content) {
            fill_sector(s, content, want);
            return std::memcmp(want, data.data() + in, sector_bytes) == 0;
        };
        const Cell& c = cells[s];
        bool good = is(c.base);
        for (std::size_t i = c.later.size(); i > 0 && !good; i--) good = is(c.later[i - 1]);
        if (good) continue;
        if (++wrong <= 8) {
            std::uint64_t word[2];
            std::memcpy(word, data.data() + in, 16);
            std::fprintf(stderr,
                         "verify: sector %llu: says sector %llu, operation %llu; expected operation %llu (promised as %llu) or "
                         "one of %zu later ones\n",
                         static_cast<unsigned long long>(s), static_cast<unsigned long long>(word[0]),
                         static_cast<unsigned long long>(word[1]), static_cast<unsigned long long>(c.base),
                         static_cast<unsigned long long>(c.at), c.later.size());
        }
    }
    if (wrong)
        std::fprintf(stderr, "verify: %llu of %llu sectors are wrong\n", static_cast<unsigned long long>(wrong),
                     static_cast<unsigned long long>(sectors));
    return wrong ? 1 : 0;
}
