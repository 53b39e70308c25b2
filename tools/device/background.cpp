// SPDX-License-Identifier: GPL-2.0-or-later
// See background.hpp.
#include "device/background.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "io/text.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

constexpr const char* turns = "/run/dmchain";

// A word of a unit's property that takes several.
std::string unit_word(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

// An argument of a unit's command, where "$" stands for a variable.
std::string argument(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '$' ? "$$" : std::string(1, c);
    return out;
}

// Runs a program without input and output; returns whether it ended well.
bool run_quietly(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int fd = 0; fd < 3; fd++) posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    pid_t child = 0;
    const int error = ::posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    int status = 0;
    return error == 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

// As a unit of its own, where systemd runs: what a unit leaves behind is killed when it ends. At shutdown it
// is stopped before the file systems of the chain are unmounted.
bool seal_as_unit(const Live& device, const SealHow& how) {
    std::error_code none;
    const std::string self = fs::read_symlink("/proc/self/exe", none).string();
    if (self.empty() || !fs::exists("/run/systemd/system", none)) return false;
    std::string mounts = unit_word(device.chain.path) + ' ' + unit_word(device.active()->path);
    for (const dm::OpenLayer& layer : device.frozen()) mounts += ' ' + unit_word(layer.path);
    std::vector<std::string> words = {"systemd-run",
                                      "--quiet",
                                      "--collect",
                                      "--no-block",
                                      fmt::format("--unit=dmchain-seal-{}-{}", device.name, ::getpid()),
                                      "--description=Seal frozen layers of chain device " + device.name,
                                      "--property=RequiresMountsFor=" + mounts};
    if (std::getenv("DMCHAIN_CONF")) words.push_back("--setenv=DMCHAIN_CONF");
    words.insert(words.end(), {"--", self, "seal"});
    for (const std::string& a : how.allow) words.push_back("--allow=" + argument(fs::absolute(a).string()));
    if (how.fill) words.push_back("--no-subclusters");
    if (how.assume_raw) words.push_back("--assume-raw");
    words.insert(words.end(), {"--", argument(device.name)});
    return run_quietly(words);
}

int open_turn(const std::string& name) {
    ::mkdir(turns, 0700);
    const std::string path = fmt::format("{}/{}.seal", turns, name);
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
    return fd;
}

}  // namespace

SealingTurn::SealingTurn(const std::string& name) : fd_(open_turn(name)) {
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    fmt::print(stderr, "dmchain: {}: another dmchain seals its layers: waiting until it is done\n", escaped(name));
    while (::flock(fd_, LOCK_EX) != 0)
        if (errno != EINTR) {
            const int why = errno;
            ::close(fd_);
            throw failed("{}: cannot wait for those who seal its layers: {}", escaped(name), std::strerror(why));
        }
}

std::optional<SealingTurn> SealingTurn::if_free(const std::string& name) {
    SealingTurn turn(open_turn(name));
    if (::flock(turn.fd_, LOCK_EX | LOCK_NB) != 0) return std::nullopt;
    return turn;
}

SealingTurn::~SealingTurn() {
    if (fd_ >= 0) ::close(fd_);
}

void seal_all_frozen(const std::string& name, const SealHow& how,
                     const std::function<void(const std::string& path, const qcow2::SealResult&)>& report) {
    std::optional<SealingTurn> turn;
    if (!how.dry_run) {
        turn.emplace(name);
        // The chain file must not need the logs of the layers any more.
        if (dm::status(name).active != "-") dm::message(name, "commit");
    }
    if (dm::status(name).active == "-") return;  // nothing of it was ever written
    const Live device = look_at(name);
    for (const dm::OpenLayer& layer : device.frozen()) report(layer.path, seal_frozen(device, layer, how));
}

void seal_in_background(const Live& device, const SealHow& how) {
    if (seal_as_unit(device, how)) return;
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0)
        throw failed("{}: cannot start the process that seals the layer: finish with 'dmchain seal'", escaped(device.name));
    if (child != 0) return;
    ::setsid();
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) ::dup2(null, fd);
    try {
        seal_all_frozen(device.name, how, [](const std::string&, const qcow2::SealResult&) {});
    } catch (const std::exception& e) {
        ::openlog("dmchain", LOG_PID, LOG_DAEMON);
        ::syslog(LOG_ERR, "sealing after a snapshot of %s: %s: finish with 'dmchain seal'", escaped(device.name).c_str(),
                 e.what());
        ::_exit(1);
    }
    ::_exit(0);
}

}  // namespace dmchain::device
