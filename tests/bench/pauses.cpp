// SPDX-License-Identifier: GPL-2.0-or-later
// How long writes wait while something is done to a device-mapper device. Writes 4 KiB in random places of a device as fast as it can,
// past the page cache, DEPTH at a time, until standard input ends. Each line of that is done, and answered with an empty line: things to
// do, separated by ";": "message NAME TEXT", "suspend NAME", "resume NAME". At the end prints a line "MICROSECONDS" for each: the
// longest of the writes that were under way meanwhile; and "WRITES SECONDS". For the benchmark of pauses.
//
//     pauses DEVICE BYTES DEPTH SEED
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "dm_do.hpp"

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t block = 4096;
std::atomic<bool> ends = false;

// A write, or something that was done.
struct Span {
    Clock::time_point begin, end;
    Clock::duration took() const { return end - begin; }
};

[[noreturn]] void die(const std::string& what) {
    std::perror(what.c_str());
    std::_Exit(1);
}

std::vector<Span> write_all_the_time(int fd, std::uint64_t blocks, std::uint64_t seed) {
    const std::unique_ptr<void, void (*)(void*)> data(std::aligned_alloc(block, block), std::free);
    std::fill_n(static_cast<unsigned char*>(data.get()), block, static_cast<unsigned char>(seed + 1));
    std::mt19937_64 random(seed);
    std::vector<Span> writes;
    writes.reserve(1u << 20);
    while (!ends) {
        const auto begin = Clock::now();
        if (::pwrite(fd, data.get(), block, static_cast<off_t>(random() % blocks * block)) != static_cast<ssize_t>(block))
            die("pauses: cannot write");
        writes.push_back({begin, Clock::now()});
    }
    return writes;
}

Span do_all(const std::string& line) {
    const auto begin = Clock::now();
    std::istringstream things(line);
    for (std::string thing; std::getline(things, thing, ';');) {
        std::istringstream words(thing);
        std::string what, name, text;
        words >> what >> name >> std::ws;
        std::getline(words, text);
        if (!dm_do(what, name, text)) die(fmt::format("pauses: cannot do '{}'", thing));
    }
    return {begin, Clock::now()};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) {
        fmt::print(stderr, "usage: pauses DEVICE BYTES DEPTH SEED\n");
        return 2;
    }
    const std::uint64_t blocks = std::stoull(argv[2]) / block, seed = std::stoull(argv[4]);
    const int fd = ::open(argv[1], O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) die(argv[1]);
    const auto start = Clock::now();
    std::vector<std::vector<Span>> writes(std::stoul(argv[3]));
    std::vector<Span> done;
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < writes.size(); i++)
            threads.emplace_back([&, i] { writes[i] = write_all_the_time(fd, blocks, seed * 1000 + i); });
        for (std::string line; std::getline(std::cin, line);) {
            done.push_back(do_all(line));
            // Who reads the answer takes the processor from the writes that are under way.
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            std::cout << std::endl;
        }
        ends = true;
    }
    const std::chrono::duration<double> seconds = Clock::now() - start;
    std::size_t count = 0;
    std::vector<Clock::duration> longest(done.size(), Clock::duration::zero());
    for (const auto& of_thread : writes) {
        count += of_thread.size();
        for (std::size_t i = 0; i < done.size(); i++)
            // One after the other: the first that ended after it began, until one began after it had ended.
            for (auto w = std::ranges::lower_bound(of_thread, done[i].begin, {}, &Span::end);
                 w != of_thread.end() && w->begin <= done[i].end; ++w)
                longest[i] = std::max(longest[i], w->took());
    }
    for (const Clock::duration& d : longest) fmt::print("{:.0f}\n", std::chrono::duration<double, std::micro>(d).count());
    fmt::print("{} {}\n", count, seconds.count());
    return 0;
}
