// SPDX-License-Identifier: GPL-2.0-or-later
// usage: stomp DEVICE HISTORY SEED OPS [COMMAND]
//
// Writes, zeroes, discards and flushes at random on DEVICE, several operations at a time (never two on one sector),
// and notes in HISTORY what it does and what each flush promises. After each flush COMMAND is run, by the shell, with
// the promise as its last word (F<number>, U<number>): to set a mark in a log of writes. It may say "w" on a line
// of its own for a DEVICE whose size has changed. Goes on with the numbers of a HISTORY that is there.
// Part of the tests of crash consistency; runs in a test machine.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "crash/history.hpp"

using namespace dmchain::crash;

namespace {

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "stomp: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

struct Op {
    char kind;  // w: write; u: write with FUA; z: write zeroes; d: discard
    std::uint64_t seq, sector, count;
};

void run(int fd, const Op& op) {
    const std::uint64_t at = op.sector * sector_bytes, bytes = op.count * sector_bytes;
    if (op.kind == 'z' || op.kind == 'd') {
        std::uint64_t range[2] = {at, bytes};
        if (::ioctl(fd, op.kind == 'z' ? BLKZEROOUT : BLKDISCARD, range) != 0) die("zeroing");
        return;
    }
    std::unique_ptr<unsigned char, void (*)(void*)> data(
        static_cast<unsigned char*>(std::aligned_alloc(4096, (bytes + 4095) & ~4095ull)), std::free);
    for (std::uint64_t i = 0; i < op.count; i++) fill_sector(op.sector + i, op.seq, data.get() + i * sector_bytes);
    const iovec v{data.get(), bytes};
    if (::pwritev2(fd, &v, 1, static_cast<off_t>(at), op.kind == 'u' ? RWF_DSYNC : 0) != static_cast<ssize_t>(bytes))
        die("writing");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) {
        std::fprintf(stderr, "usage: stomp DEVICE HISTORY SEED OPS [COMMAND]\n");
        return 2;
    }
    std::mt19937_64 rnd(std::strtoull(argv[3], nullptr, 10));
    const std::uint64_t ops = std::strtoull(argv[4], nullptr, 10);
    const std::string command = argc > 5 ? argv[5] : "";
    std::uint64_t seq = 0;
    if (std::ifstream(argv[2]))
        for (const Event& e : read_history(argv[2])) seq = std::max(seq, e.seq);
    FILE* history = std::fopen(argv[2], "a");
    if (!history) die(argv[2]);
    const int fd = ::open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
    std::uint64_t bytes = 0;
    if (fd < 0 || ::ioctl(fd, BLKGETSIZE64, &bytes) != 0) die(argv[1]);
    const std::uint64_t sectors = bytes / sector_bytes;
    auto draw = [&](std::uint64_t n) { return rnd() % n; };
    auto note = [&](char kind, std::uint64_t n, std::uint64_t sector, std::uint64_t count) {
        std::fprintf(history, "%c %llu %llu %llu\n", kind, static_cast<unsigned long long>(n),
                     static_cast<unsigned long long>(sector), static_cast<unsigned long long>(count));
        std::fflush(history);
    };
    auto promise = [&](char kind, char name, std::uint64_t n) {
        note(kind, n, 0, 0);
        if (!command.empty() && std::system((command + " " + name + std::to_string(n)).c_str()) != 0) die(command);
    };

    for (std::uint64_t done = 0; done < ops;) {
        std::vector<Op> batch;
        for (std::uint64_t want = 1 + draw(6); want > 0; want--) {
            Op op{"wwwwwwuzdd"[draw(10)], 0, 0, 0};
            // Now and then near a place that is written often, so that units are merged and overwritten.
            const std::uint64_t area = draw(2) ? sectors : std::min<std::uint64_t>(sectors, 4096);
            op.sector = draw(area);
            op.count = 1 + draw(draw(4) ? 24 : 512);
            if (op.kind == 'd' || draw(2)) {
                op.sector &= ~7ull;
                op.count = (op.count + 7) & ~7ull;
            }
            op.count = std::min(op.count, sectors - op.sector);
            if (op.kind == 'd' && op.count % 8) op.kind = 'z';
            bool free = true;
            for (const Op& o : batch) free = free && (op.sector >= o.sector + o.count || o.sector >= op.sector + op.count);
            if (!free) continue;
            op.seq = ++seq;
            batch.push_back(op);
        }
        for (const Op& op : batch) note(op.kind == 'w' || op.kind == 'u' ? 'w' : 'z', op.seq, op.sector, op.count);
        std::vector<std::thread> threads;
        for (const Op& op : batch) threads.emplace_back([fd, op] { run(fd, op); });
        for (std::thread& t : threads) t.join();
        for (const Op& op : batch)
            if (op.kind == 'u') promise('u', 'U', op.seq);
        if (draw(6) == 0) {
            const std::uint64_t covers = seq;
            if (::fdatasync(fd) != 0) die("flushing");
            promise('f', 'F', covers);
        }
        done += batch.size();
    }
    std::fclose(history);
    return 0;
}
