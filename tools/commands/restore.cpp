// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain restore: makes the file with stored memory, and the files of stored layers, again.
#include "replica/layer_files.hpp"
#include "replica/restore.hpp"

#include <fcntl.h>
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
#include "guest/firecracker.hpp"
#include "guest/forget.hpp"
#include "guest/spool.hpp"
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
    std::string layers;
    std::string disk;
    qcow2::ChainOptions chain;
    bool json = false;
};

struct DiskSource {
    qcow2::Chain chain;
    std::size_t point;
};

// What --disk names, or the snapshot that was there when the memory was stored: its file alone, whatever has come on top of it.
// @top: of the layers that were just made; "": none were.
DiskSource open_disk(const Options& o, const replica::Disk& stored, const std::string& top) {
    const std::string known = top.empty() ? stored.snapshot : top;
    const device::At at = o.disk.empty() ? device::At{known, known} : device::split_at(o.disk);
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

// Returns whether clean cache has no copy left, of which the guest has to be told.
bool require_no_missing(const replica::Manifest& m, const replica::Store& places, bool disk) {
    const auto [missing, cache] = replica::missing_pieces(m, places, disk);
    if (missing.empty()) return cache;
    std::uint64_t pages = 0;
    for (const std::size_t i : missing) pages += m.pieces[i].bytes / guest::page_bytes;
    throw damaged("{}: {} ({} of memory) {} no copy left in these folders; the first one has {}: name all folders that are left",
                  in_quotes(m.name), counted(missing.size(), "piece"), human_size(pages * guest::page_bytes),
                  missing.size() == 1 ? "has" : "have", replica::content_of(m, missing.front()));
}

void require_usage(const Options& o) {
    const bool out = o.memory == "-";
    if (o.memory.empty() && o.layers.empty())
        throw Error(Exit::usage, "restore: say what to make: the memory with --memory, the disk with --layers, or both");
    if (out && o.json) throw Error(Exit::usage, "restore: standard output is for the memory: --json does not go with it");
    if (out && ::isatty(STDOUT_FILENO)) throw Error(Exit::usage, "restore: standard output is a terminal: name a file");
    if (!replica::is_name(o.name))
        throw Error(Exit::usage, fmt::format("restore: {} is no name of a snapshot", in_quotes(o.name)));
    for (const std::string& path : {o.memory, o.state, o.layers})
        if (path != "-" && !path.empty() && ::access(path.c_str(), F_OK) == 0)
            throw failed("{}: is there already: name another", escaped(path));
}

void warn(const std::vector<std::string>& problems) {
    for (const std::string& p : problems) fmt::print(stderr, "dmchain: warning: {}\n", p);
}

replica::LayerFiles restore_layers(const Options& o, const replica::FoundLayers& found, const replica::Store& places) {
    Progress progress("restoring layers", found.data_bytes(), Progress::Counts::bytes);
    return replica::restore_layers(found, places, o.layers, [&](std::uint64_t n) { progress.add(n); });
}

struct Made {
    std::uint64_t bytes = 0, file_bytes = 0;
    replica::Restored restored;
    std::uint64_t lost_bytes() const { return restored.lost.size() * guest::page_bytes; }
};

// Changes the memory in @file, so that the guest reads what is lost of its clean cache from its disk.
void forget_lost(const replica::Manifest& m, File file, const std::vector<guest::PageAt>& lost) {
    const int fd = file.fd();
    guest::Candidates candidates;
    const auto seen = [&](std::size_t block, std::uint64_t page, const unsigned char* data) {
        candidates.look_at(block, page, data);
    };
    const guest::Image image = m.form == guest::Form::firecracker ? guest::read_firecracker(std::move(file), {}, "", seen)
                                                                  : guest::read_image(guest::Source(std::move(file)), seen);
    try {
        for (const guest::Change& c : guest::forget_pages(image, candidates, lost))
            if (write_all(fd, &c.value, sizeof c.value, c.at) < sizeof c.value)
                throw failed("{}: cannot write at byte {}: {}", escaped(image.source.name()), c.at, std::strerror(errno));
    } catch (const guest::NotUnderstood& e) {
        throw damaged("{}: {} of clean cache have no copy left that is not damaged, and the guest cannot go on without: {}",
                      in_quotes(m.name), human_size(lost.size() * guest::page_bytes), e.what());
    }
}

void write_out(const void* data, std::size_t n) {
    if (write_all(STDOUT_FILENO, data, n) < n) throw failed("cannot write to standard output: {}", std::strerror(errno));
}

void write_out(const File& file, std::uint64_t bytes) {
    std::vector<unsigned char> buffer(1u << 20);
    for (std::uint64_t at = 0; at < bytes; at += buffer.size()) {
        buffer.resize(std::min<std::uint64_t>(buffer.size(), bytes - at));
        file.read(buffer.data(), buffer.size(), at);
        write_out(buffer.data(), buffer.size());
    }
}

// @changed: what is made has to be changed before anybody reads it.
Made restore_memory(const Options& o, const replica::Manifest& m, const replica::Store& places, const std::string& top,
                    bool changed) {
    std::optional<DiskSource> disk;
    chain::Readers read_disk;
    if (m.disk && (!o.disk.empty() || replica::pieces_only_on_disk(m, places))) {
        try {
            disk = open_disk(o, *m.disk, top);
        } catch (const Error& e) {
            throw Error(e.code(), fmt::format("{} (the disk is needed for pages that were not stored: name it with --disk{})",
                                              e.what(), m.layers.empty() ? "" : ", or make it with --layers"));
        }
        read_disk = chain::readers_of(disk->chain, disk->point);
    }

    const bool out = o.memory == "-";
    Made made;
    for (const auto& b : m.blocks) made.bytes += b.bytes;
    std::optional<chain::Output> file, state;
    std::optional<guest::Spool> spool;
    if (!out) file.emplace(o.memory);
    if (out && changed) spool.emplace(fmt::format("the snapshot {}", in_quotes(m.name)));
    if (!o.state.empty()) state.emplace(o.state);
    Buffer buffer([&](const void* data, std::size_t n, std::uint64_t at) {
        if (file)
            file->write(data, n, at);
        else if (spool)
            spool->append(data, n);
        else
            write_out(data, n);
        made.file_bytes = std::max(made.file_bytes, at + n);
    });
    const replica::Outputs outputs = {[&](const void* data, std::size_t n, std::uint64_t at) { buffer.put(data, n, at); },
                                      [&](const void* data, std::size_t n, std::uint64_t at) { state->write(data, n, at); }};
    {
        Progress progress("restoring", made.bytes, Progress::Counts::bytes);
        made.restored = replica::restore(m, places, read_disk, outputs, file || spool, [&](std::uint64_t n) { progress.add(n); });
    }
    buffer.end();
    if (m.form == guest::Form::firecracker) file->resize(made.file_bytes = made.bytes);
    const auto& lost = made.restored.lost;
    if (spool) {
        const File whole = spool->finish();
        if (!lost.empty()) forget_lost(m, {::fcntl(whole.fd(), F_DUPFD_CLOEXEC, 0), whole.path()}, lost);
        write_out(whole, made.file_bytes);
    }
    if (out) return made;
    if (!lost.empty()) forget_lost(m, file->file(), lost);
    if (state) state->commit(false);
    file->commit(false);
    return made;
}

void run(const Options& o) {
    require_usage(o);
    const replica::Store places = replica::open_store(o.store);
    for (const auto& f : places) f.require_store();
    const replica::Source source = replica::find_manifest(places, o.name);
    const replica::Manifest& m = source.manifest;
    replica::FoundLayers found;
    bool changed = false;
    if (!o.layers.empty()) {
        if (m.layers.empty())
            throw failed("{}: has no layers: replicate stored memory alone: leave --layers out", in_quotes(o.name));
        found = replica::find_layers(m, places);
    }
    if (!o.memory.empty()) {
        if (!m.has_memory())
            throw failed("{}: has no memory: replicate stored a disk alone: leave --memory out", in_quotes(o.name));
        check_form(o, m);
        changed = require_no_missing(m, places, m.disk.has_value());
    }
    warn(source.problems);
    warn(found.problems);

    replica::LayerFiles files;
    if (!o.layers.empty()) files = restore_layers(o, found, places);
    Made made;
    if (!o.memory.empty()) made = restore_memory(o, m, places, files.top, changed);
    const std::uint64_t damaged = files.damaged_copies + made.restored.damaged_copies;
    if (damaged)
        fmt::print(stderr, "dmchain: warning: {} damaged{}\n", counted(damaged, "copy was", "copies were"),
                   made.restored.lost.empty() ? "; others were used" : "");
    if (!made.restored.lost.empty())
        fmt::print(stderr, "dmchain: warning: {} of clean cache have no copy left: the guest reads them from its disk again\n",
                   human_size(made.lost_bytes()));
    if (o.memory == "-") return;
    if (o.json) {
        nlohmann::ordered_json j = {{"name", o.name}};
        if (!o.memory.empty())
            j.update({{"memory", absolute_name(o.memory)},
                      {"bytes", made.bytes},
                      {"file_bytes", made.file_bytes},
                      {"disk_bytes", made.restored.disk_bytes},
                      {"lost_cache_bytes", made.lost_bytes()}});
        if (!o.layers.empty()) j.update({{"layers", found.layers.size()}, {"top", absolute_name(files.top)}});
        j.update({{"damaged_copies", damaged}, {"folders_without_snapshot", source.problems.size()}});
        return print_json(j);
    }
    if (!o.layers.empty())
        fmt::print("{}: the topmost of {}; dmchain create and activate go on with it\n", escaped(files.top),
                   counted(found.layers.size(), "layer"));
    if (!o.memory.empty())
        fmt::print("{}: {} of memory, {} of it from the disk\n", escaped(o.memory), human_size(made.bytes),
                   human_size(made.restored.disk_bytes));
}

}  // namespace

CLI::App* add_restore(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand(
        "restore", "Write the memory and the disk of a guest that were stored by replicate, for QEMU to go on with");
    c->add_option("NAME", o->name, "Of the snapshot")->required();
    c->add_option("--from", o->store, "The folders that are left, as dir:DIR[,DIR...], or the pools, as rados:POOL[,POOL...]")
        ->required()
        ->type_name("STORE");
    c->add_option("--memory", o->memory,
                  "The file to make for the memory, in the form that was stored; - for standard output, of a migration stream")
        ->type_name("FILE");
    c->add_option("--layers", o->layers, "The folder to make for the layers of the disk, as qcow2 files")->type_name("DIR");
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
