// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain import: applies a stream of 'dmchain export --since' to a copy of the disk.
#include "chain/import.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "chain/point_id.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/live.hpp"
#include "io/file.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string stream;
    std::string target;
    std::string note;
    bool force = false;
    bool dry_run = false;
    bool json = false;
};

nlohmann::json id_or_null(const std::optional<qcow2::LayerId>& id) { return id ? nlohmann::json(chain::text_of(*id)) : nullptr; }

// As far as this machine knows: what a device stands on is not written to.
void require_no_layer(const std::string& target) {
    struct stat st {};
    if (::stat(target.c_str(), &st) != 0) return;
    const Identity who = identity_of(target);
    if (const auto use = device::user_of(who))
        throw failed("{}: the device {} has it: a layer or chain file is no copy of a disk", escaped(target),
                     escaped(use->device.name));
}

int open_stream(const std::string& path) {
    if (path == "-") return STDIN_FILENO;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw failed("{}: cannot open: {}", escaped(path), std::strerror(errno));
    return fd;
}

void run(const Options& o) {
    require_no_layer(o.target);
    const int fd = open_stream(o.stream);
    const std::string name = o.stream == "-" ? "standard input" : escaped(o.stream);
    struct stat st {};
    if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        // What can be read twice is checked to its end before anything is changed.
        const off_t begin = ::lseek(fd, 0, SEEK_CUR);
        chain::StreamReader check(fd, name);
        Progress progress("checking the stream", check.info().data_bytes, Progress::Counts::bytes);
        while (const auto r = check.next()) progress.add(r->data ? r->bytes : 0);
        if (::lseek(fd, begin, SEEK_SET) != begin)
            throw failed("{}: cannot go back to its start: {}", name, std::strerror(errno));
    }
    chain::StreamReader stream(fd, name);
    const chain::StreamInfo info = stream.info();
    chain::ImportHow how;
    how.note = o.note.empty() ? chain::note_of_import(o.target) : o.note;
    how.force = o.force;
    how.dry_run = o.dry_run;
    if (o.note.empty() && ::stat(o.target.c_str(), &st) == 0 && S_ISBLK(st.st_mode))
        throw failed("{}: is a block device, whose folder does not last: say with --note FILE where the note of what it holds is",
                     escaped(o.target));
    chain::Imported done;
    {
        Progress progress("importing", info.data_bytes, Progress::Counts::bytes);
        how.progress = [&](std::uint64_t bytes) { progress.add(bytes); };
        done = chain::import(stream, o.target, how);
    }
    if (o.json) {
        print_json(nlohmann::json{{"target", absolute_name(o.target)},
                                  {"bytes", info.bytes},
                                  {"from_id", id_or_null(info.base)},
                                  {"to_id", id_or_null(info.to)},
                                  {"data_bytes", o.dry_run && !done.held ? info.data_bytes : done.data_bytes},
                                  {"resumed", done.resumed},
                                  {"held", done.held},
                                  {"dry_run", o.dry_run}});
        return;
    }
    if (done.held)
        fmt::print("{}: holds the snapshot {} already\n", escaped(o.target), chain::text_of(*info.to));
    else if (o.dry_run)
        fmt::print("{}: the stream fits: {} of data\n", escaped(o.target), human_size(info.data_bytes));
    else if (info.to)
        fmt::print("{}: holds the snapshot {} now: {} of data written, {} of zeroes\n", escaped(o.target),
                   chain::text_of(*info.to), human_size(done.data_bytes), human_size(done.zero_bytes));
    else
        fmt::print(
            "{}: holds what the disk held then: {} of data written, {} of zeroes; as that was no snapshot, no other stream "
            "begins there\n",
            escaped(o.target), human_size(done.data_bytes), human_size(done.zero_bytes));
}

}  // namespace

CLI::App* add_import(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("import", "Apply a stream of 'dmchain export --since' to a copy of the disk");
    c->add_option("STREAM", o->stream, "The stream, or - for standard input")->required();
    c->add_option("TARGET", o->target, "The copy: a raw file or a block device")->required();
    c->add_option("--note", o->note, "Where it is noted what TARGET holds (default: TARGET.dmchain-import)")->type_name("FILE");
    c->add_flag("--force", o->force, "Apply the stream whatever TARGET holds");
    c->add_flag("-n,--dry-run", o->dry_run, "Only check whether the stream fits");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
