// SPDX-License-Identifier: GPL-2.0-or-later
// See decompress.hpp.
#include "guest/decompress.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

struct Descriptor {
    explicit Descriptor(int n) : fd(n) {}
    ~Descriptor() { close(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    void close() {
        if (fd >= 0) ::close(std::exchange(fd, -1));
    }
    int fd;
};

// A program that runs, and is ended with its object.
class Child {
public:
    Child(const char* program, int in, int out, int messages) {
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, in, 0);
        posix_spawn_file_actions_adddup2(&files, out, 1);
        posix_spawn_file_actions_adddup2(&files, messages, 2);
        // Without the last word its warnings count as failures.
        const char* const more = std::strcmp(program, "lzop") == 0 ? "--ignore-warn" : nullptr;
        std::array<const char*, 4> argv = {program, "-dc", more, nullptr};
        const int error = ::posix_spawnp(&pid_, program, &files, nullptr, const_cast<char**>(argv.data()), environ);
        posix_spawn_file_actions_destroy(&files);
        if (error == ENOENT)
            throw failed("{0} is not there, with which the memory was compressed: install the package {1}", program,
                         std::strcmp(program, "xz") == 0 ? "xz-utils" : program);
        if (error) throw failed("cannot run {}: {}", program, std::strerror(error));
    }
    ~Child() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        wait();
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    int wait() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        pid_ = 0;
        return status;
    }

private:
    pid_t pid_ = 0;
};

// What it said, as part of a line.
std::string said(int messages) {
    std::array<char, 300> text{};
    const ssize_t n = ::pread(messages, text.data(), text.size(), 0);
    std::string out(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    out = out.substr(0, out.find_last_not_of(" \n") + 1);
    return out.empty() ? "it did not say why" : escaped(out.substr(0, out.find('\n')));
}

}  // namespace

void decompress(const char* program, const File& file, std::uint64_t from, Spool& to) {
    // Opened again: where the one at hand stands is nobody's business.
    const Descriptor in(::open(fmt::format("/proc/self/fd/{}", file.fd()).c_str(), O_RDONLY | O_CLOEXEC));
    const Descriptor messages(::memfd_create("messages", MFD_CLOEXEC));
    int ends[2] = {-1, -1};
    if (in.fd < 0 || ::lseek(in.fd, static_cast<off_t>(from), SEEK_SET) < 0 || messages.fd < 0 || ::pipe2(ends, O_CLOEXEC) != 0)
        throw failed("{}: cannot open it for {}: {}", escaped(file.path()), program, std::strerror(errno));
    const Descriptor out(ends[0]);
    Descriptor write_end(ends[1]);
    Child child(program, in.fd, write_end.fd, messages.fd);
    write_end.close();
    to.append_from(out.fd);
    if (const int status = child.wait(); status != 0)
        throw damaged("{}: {} cannot read what is compressed from byte {} on: {}", escaped(file.path()), program, from,
                      said(messages.fd));
}

}  // namespace dmchain::guest
