// SPDX-License-Identifier: GPL-2.0-or-later
// Runs in the guest of tests/guest-memory: holds memory whose content it knows (its own, a child's copy of it, a mapped file), says
// that it is ready, and compares all of it when SIGUSR1 comes. Exit status 0: nothing has changed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

// Every 8th page stays zero; the others have what splitmix64 makes of their number.
std::uint64_t word(std::uint64_t i) {
    if ((i >> 9) % 8 == 7) return 0;
    std::uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

bool holds(const std::uint64_t* words, std::size_t n) {
    for (std::size_t i = 0; i < n; i++)
        if (words[i] != word(i)) {
            std::printf("holder: word %zu is %lx, expected %lx\n", i, words[i], word(i));
            return false;
        }
    return true;
}

std::uint64_t sum(const unsigned char* p, std::size_t n) {
    std::uint64_t s = 0;
    for (std::size_t i = 0; i < n; i++) s = s * 31 + p[i];
    return s;
}

}  // namespace

// holder MIB FILE
int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::size_t n = std::strtoul(argv[1], nullptr, 10) << 17;
    auto* const words =
        static_cast<std::uint64_t*>(mmap(nullptr, n * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const int fd = open(argv[2], O_RDONLY);
    struct stat st {};
    if (words == MAP_FAILED || fd < 0 || fstat(fd, &st) != 0) return 2;
    const auto size = static_cast<std::size_t>(st.st_size);
    const auto* const file = static_cast<const unsigned char*>(mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0));
    if (file == MAP_FAILED) return 2;
    for (std::size_t i = 0; i < n; i++) words[i] = word(i);
    const std::uint64_t expected = sum(file, size);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    const pid_t child = fork();
    std::printf("holder: %s ready\n", child ? "parent" : "child");
    std::fflush(stdout);
    int signal = 0;
    sigwait(&set, &signal);
    bool right = holds(words, n);
    if (sum(file, size) != expected) right = !std::printf("holder: the mapped file has changed\n");
    int status = 0;
    if (child) {
        kill(child, SIGUSR1);
        waitpid(child, &status, 0);
    }
    std::fflush(stdout);
    return right && status == 0 ? 0 : 1;
}
