// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain restore: makes the file with stored memory again.
#include "replica/restore.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "chain/copy_parts.hpp"
#include "chain/output.hpp"
#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/point.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    std::string name;
    std::string store;
    std::string memory;
    std::string state;
    std::string disk;
    qcow2::ChainOptions chain;
    bool json = false;
};

struct DiskSource {
    qcow2::Chain chain;
    std::size_t point;
};

// What --disk names, or the snapshot that was there when the memory was stored: its file alone, whatever has come on top of it.
DiskSource open_disk(const Options& o, const replica::Disk& stored) {
    const device::At at = o.disk.empty() ? device::At{stored.snapshot, stored.snapshot} : device::split_at(o.disk);
    const device::Subject subject = device::subject(at.what, o.disk.empty());
    qcow2::Chain chain = subject.open(o.chain);
    const std::size_t point = device::find_point(chain, at.snapshot);
    return {std::move(chain), point};
}

// Collects small writes that follow each other into larger ones.
class Buffer {
public:
    explicit Buffer(guest::Put flush) : flush_(std::move(flush)) { data_.reserve(2 * most); }
    void put(const void* data, std::size_t bytes, std::uint64_t at) {
        if (at != at_ + data_.size()) {
            end();
            at_ = at;
        }
        const auto* const p = static_cast<const unsigned char*>(data);
        data_.insert(data_.end(), p, p + bytes);
        if (data_.size() >= most) end();
    }
    void end() {
        if (!data_.empty()) flush_(data_.data(), data_.size(), at_);
        at_ += data_.size();
        data_.clear();
    }

private:
    static constexpr std::size_t most = 1u << 20;
    guest::Put flush_;
    std::uint64_t at_ = 0;  // where the data goes
    std::vector<unsigned char> data_;
};

// That it can be written as the options say.
void check_form(const Options& o, const replica::Manifest& m) {
    const bool stream = m.form == guest::Form::stream, firecracker = m.form == guest::Form::firecracker;
    if (o.memory == "-" && !stream)
        throw failed("{}: is memory in the form {}, which is not written from start to end: name a file with --memory",
                     in_quotes(m.name), name_of(m.form));
    if (firecracker && o.state.empty())
        throw failed("{}: is of a Firecracker microVM: name the file for the state of its devices with --state",
                     in_quotes(m.name));
    if (!firecracker && !o.state.empty())
        throw failed("{}: is not of a Firecracker microVM, and has no state in a file of its own: leave --state out",
                     in_quotes(m.name));
}

void require_no_missing(const replica::Manifest& m, const std::vector<replica::Folder>& folders, bool disk) {
    const auto missing = replica::missing_pieces(m, folders, disk);
    if (missing.empty()) return;
    std::uint64_t pages = 0;
    for (const std::size_t i : missing) pages += m.pieces[i].bytes / guest::page_bytes;
    throw damaged("{}: {} ({} of memory) {} no copy left in these folders; the first one has {}: name all folders that are left",
                  in_quotes(m.name), counted(missing.size(), "piece"), human_size(pages * guest::page_bytes),
                  missing.size() == 1 ? "has" : "have", replica::content_of(m, missing.front()));
}

void run(const Options& o) {
    const bool out = o.memory == "-";
    if (out && o.json) throw Error(Exit::usage, "restore: standard output is for the memory: --json does not go with it");
    if (out && ::isatty(STDOUT_FILENO)) throw Error(Exit::usage, "restore: standard output is a terminal: name a file");
    if (!replica::is_name(o.name))
        throw Error(Exit::usage, fmt::format("restore: {} is no name of a snapshot", in_quotes(o.name)));
    for (const std::string& path : {o.memory, o.state})
        if (path != "-" && !path.empty() && ::access(path.c_str(), F_OK) == 0)
            throw failed("{}: is there already: name another file", escaped(path));
    const std::vector<replica::Folder> folders = replica::open_folders(o.store);
    for (const auto& f : folders) f.require_store();
    const replica::Source source = replica::find_manifest(folders, o.name);
    const replica::Manifest& m = source.manifest;
    check_form(o, m);
    for (const std::string& p : source.problems) fmt::print(stderr, "dmchain: warning: {}\n", p);

    std::optional<DiskSource> disk;
    replica::ReadDisk read_disk;
    require_no_missing(m, folders, m.disk.has_value());
    if (m.disk && (!o.disk.empty() || replica::pieces_only_on_disk(m, folders))) {
        try {
            disk = open_disk(o, *m.disk);
        } catch (const Error& e) {
            throw Error(e.code(),
                        fmt::format("{} (the disk is needed for pages that were not stored: name it with --disk)", e.what()));
        }
        read_disk = chain::readers_of(disk->chain, disk->point)();
    }

    std::uint64_t bytes = 0, written = 0;
    for (const auto& b : m.blocks) bytes += b.bytes;
    std::optional<chain::Output> file, state;
    if (!out) file.emplace(o.memory);
    if (!o.state.empty()) state.emplace(o.state);
    Buffer buffer([&](const void* data, std::size_t n, std::uint64_t at) {
        if (file)
            file->write(data, n, at);
        else if (write_all(STDOUT_FILENO, data, n) < n)
            throw failed("cannot write to standard output: {}", std::strerror(errno));
        written = std::max(written, at + n);
    });
    const replica::Outputs outputs = {[&](const void* data, std::size_t n, std::uint64_t at) { buffer.put(data, n, at); },
                                      [&](const void* data, std::size_t n, std::uint64_t at) { state->write(data, n, at); }};
    replica::Restored restored;
    {
        Progress progress("restoring", bytes, Progress::Counts::bytes);
        restored = replica::restore(m, folders, read_disk, outputs, [&](std::uint64_t n) { progress.add(n); });
    }
    buffer.end();
    if (restored.damaged_copies)
        fmt::print(stderr, "dmchain: warning: {} damaged; others were used\n",
                   counted(restored.damaged_copies, "copy was", "copies were"));
    if (out) return;
    if (m.form == guest::Form::firecracker) file->resize(written = bytes);
    if (state) state->commit(false);
    file->commit(false);
    if (o.json)
        print_json(nlohmann::ordered_json{{"name", o.name},
                                          {"memory", absolute_name(o.memory)},
                                          {"bytes", bytes},
                                          {"file_bytes", written},
                                          {"disk_bytes", restored.disk_bytes},
                                          {"damaged_copies", restored.damaged_copies},
                                          {"folders_without_snapshot", source.problems.size()}});
    else
        fmt::print("{}: {} of memory, {} of it from the disk\n", escaped(o.memory), human_size(bytes),
                   human_size(restored.disk_bytes));
}

}  // namespace

CLI::App* add_restore(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c =
        app.add_subcommand("restore", "Write the memory of a guest that was stored by replicate, for QEMU to go on with");
    c->add_option("NAME", o->name, "Of the snapshot")->required();
    c->add_option("--from", o->store, "The folders that are left")->required()->type_name("dir:DIR[,DIR...]");
    c->add_option("--memory", o->memory,
                  "The file to make, in the form that was stored; - for standard output, of a migration stream")
        ->required()
        ->type_name("FILE");
    c->add_option("--state", o->state, "Of a Firecracker microVM: the file to make for the state of its devices")
        ->type_name("FILE");
    c->add_option("--disk", o->disk, "Where the disk of then is now: a device, or the image on top of a chain")
        ->type_name("NAME[@SNAPSHOT]");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the disk's");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
