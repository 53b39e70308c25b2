// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain serve: a snapshot over NBD, by qemu-nbd, with a bitmap of what changed. Stays in the foreground, as hold does.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "chain/diff.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "device/point.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "qcow2/overlay.hpp"

namespace dmchain::commands {

namespace fs = std::filesystem;

namespace {

constexpr const char* bitmap_name = "since";
constexpr std::uint64_t most_blocks = std::uint64_t{1} << 29;  // 64 MiB of bitmap

// log2 of the bytes of a block: 64 KiB, as long as that does not make too many.
unsigned block_bits(std::uint64_t bytes) {
    unsigned bits = 16;
    while (bytes >> bits > most_blocks) bits++;
    return bits;
}

struct Options {
    std::string what;
    std::string socket;
    std::optional<std::string> since;
    qcow2::ChainOptions chain;
};

// A folder that goes with the process, and what is in it.
class Temporary {
public:
    Temporary() : path_((fs::temp_directory_path() / "dmchain-serve-XXXXXX").string()) {
        if (!::mkdtemp(path_.data())) throw failed("{}: cannot make a folder: {}", escaped(path_), std::strerror(errno));
    }
    ~Temporary() {
        std::error_code none;
        fs::remove_all(path_, none);
    }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

// What QEMU must be able to open: sealed images, and whole raw files.
void require_plain(const qcow2::Chain& chain, std::size_t point) {
    for (std::size_t i = 0; i <= point; i++) {
        const qcow2::Layer& l = *chain.layers()[i];
        const std::string path = escaped(l.file().path());
        if (l.image() && l.image()->log()) throw failed("{}: is not sealed yet: 'dmchain seal' does that", path);
        if (i == point && l.format() == qcow2::Format::raw && (l.raw_begin() || l.virtual_size() < l.file().size()))
            throw failed("{}: is used in part: it cannot be served by itself", path);
    }
}

std::string make_overlay(const Temporary& folder, const Options& o) {
    const device::At at = device::split_at(o.what);
    if (!at.snapshot) throw Error(Exit::usage, "serve: expected NAME@SNAPSHOT: the state of now changes");
    const device::Subject subject = device::subject(at.what);
    const qcow2::Chain chain = subject.open(held(o.chain));
    const std::size_t point = device::find_snapshot(chain, *at.snapshot);
    require_plain(chain, point);
    const qcow2::Layer& layer = *chain.layers()[point];
    qcow2::OverlayOptions overlay{layer.virtual_size(), layer.file().name(), qcow2::name_of(layer.format()), bitmap_name};
    std::optional<qcow2::BlockBits> bits;
    if (o.since) {
        bits.emplace(layer.virtual_size(), block_bits(layer.virtual_size()));
        chain::diff(chain, {device::find_snapshot(chain, *o.since), point}, [&](const chain::Part& p) {
            const std::uint64_t end = std::min(p.start + p.bytes, layer.virtual_size());
            if (p.start < end) bits->set(p.start, end);
        });
        overlay.bitmap = &*bits;
    }
    const std::string path = folder / "overlay.qcow2";
    qcow2::make_overlay(path, overlay);
    return path;
}

// qemu-nbd, in the folder of the images: QEMU takes relative names of data files from there.
pid_t start(const std::string& overlay, const Options& o, const std::string& socket) {
    std::vector<std::string> words = {"qemu-nbd",   "--read-only",    "--persistent",
                                      "--shared=0", "--format=qcow2", "--socket=" + socket};
    if (o.since) words.push_back(std::string("--bitmap=") + bitmap_name);
    words.push_back(overlay);
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) throw failed("cannot start qemu-nbd: {}", std::strerror(errno));
    if (child) return child;
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() == parent) ::execvp(argv[0], argv.data());
    ::_exit(127);
}

void run(const Options& o) {
    // They come as answers of sigtimedwait(): nothing is left, whenever it ends.
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::sigaddset(&signals, s);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);

    const std::string socket = absolute_name(o.socket);
    struct stat st {};
    if (::lstat(socket.c_str(), &st) == 0) throw failed("{}: is there already: remove it, or name another one", escaped(socket));
    const Temporary folder;
    const pid_t child = start(make_overlay(folder, o), o, socket);
    const timespec wait = {0, 50'000'000};
    bool told = false;
    for (;;) {
        const int signal = ::sigtimedwait(&signals, nullptr, &wait);
        int status = 0;
        if (::waitpid(child, &status, WNOHANG) == child) {
            ::unlink(socket.c_str());
            throw WIFEXITED(status) && WEXITSTATUS(status) == 127
                ? failed("qemu-nbd: cannot be started: install it (package qemu-utils)")
                : failed("{}: qemu-nbd ended: what it said stands above", escaped(o.what));
        }
        if (signal > 0 && signal != SIGCHLD) break;
        if (told || ::lstat(socket.c_str(), &st) != 0) continue;
        fmt::print("nbd+unix:///?socket={}\n", escaped(socket));
        if (o.since) fmt::print("qemu:dirty-bitmap:{}\n", bitmap_name);
        std::fflush(stdout);
        told = true;
    }
    ::kill(child, SIGTERM);
    ::waitpid(child, nullptr, 0);
    ::unlink(socket.c_str());
}

}  // namespace

CLI::App* add_serve(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("serve", "Let NBD clients read a snapshot, and learn what changed since another one");
    c->add_option("NAME", o->what, "NAME@SNAPSHOT: of the device NAME, or of the chain that the image NAME is on top of")
        ->required();
    c->add_option("--socket", o->socket, "The Unix socket to make")->type_name("PATH")->required();
    c->add_option_function<std::string>(
         "--since", [o](const std::string& s) { o->since = s; },
         "Offer the bitmap qemu:dirty-bitmap:since of the blocks of 64 KiB that are different since then")
        ->type_name("SNAPSHOT");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the chain's");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
