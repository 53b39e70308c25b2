// SPDX-License-Identifier: GPL-2.0-or-later
// See gnuplot.hpp. Script and picture are files without a name: no pipe can fill up.
#include "io/gnuplot.hpp"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/error.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain {

namespace {

class MemoryFile {
public:
    explicit MemoryFile(const char* name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {
        if (fd_ < 0) throw failed("cannot make a file in memory: {}", std::strerror(errno));
    }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    int fd() const { return fd_; }
    void write(std::string_view text) const {
        if (write_all(fd_, text.data(), text.size(), 0) < text.size())
            throw failed("cannot write to a file in memory: {}", std::strerror(errno));
    }
    std::string read() const {
        std::string out;
        std::array<char, 65536> buffer{};
        for (ssize_t n = 0; (n = ::pread(fd_, buffer.data(), buffer.size(), static_cast<off_t>(out.size()))) > 0;)
            out.append(buffer.data(), static_cast<std::size_t>(n));
        return out;
    }

private:
    int fd_;
};

}  // namespace

std::string plot_svg(const std::string& script, unsigned width, unsigned height) {
    const MemoryFile in("script"), out("svg"), messages("messages");
    in.write(fmt::format("set terminal svg noenhanced size {},{} font 'sans-serif,11' background rgb 'white'\n{}", width, height,
                         script));
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in.fd(), 0);
    posix_spawn_file_actions_adddup2(&files, out.fd(), 1);
    posix_spawn_file_actions_adddup2(&files, messages.fd(), 2);
    // Not what the user has set for plots of their own.
    std::array<const char*, 4> argv = {"gnuplot", "--default-settings", "-", nullptr};
    pid_t child = 0;
    const int error = ::posix_spawnp(&child, argv[0], &files, nullptr, const_cast<char**>(argv.data()), environ);
    posix_spawn_file_actions_destroy(&files);
    if (error == ENOENT) throw failed("gnuplot is not there, which draws the plots: install the package gnuplot-nox");
    if (error != 0) throw failed("cannot run gnuplot: {}", std::strerror(error));
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    std::string svg = out.read();
    if (status != 0 || svg.find("</svg>") == std::string::npos) {
        std::string said = messages.read();
        said.erase(0, said.find_first_not_of(" \n"));
        throw failed("gnuplot could not draw the plot: {}", escaped(said.substr(0, 300)));
    }
    return svg;
}

std::string plot_text(std::string_view text) {
    std::string out = "'";
    for (const char c : escaped(text)) {
        // gnuplot runs what stands between backquotes, but not between single ones; a quote is doubled there.
        if (c == '`') {
            out += "\\x60";
            continue;
        }
        if (c == '\'') out += c;
        out += c;
    }
    return out + "'";
}

}  // namespace dmchain
