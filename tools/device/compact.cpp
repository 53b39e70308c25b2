// SPDX-License-Identifier: GPL-2.0-or-later
// See compact.hpp. In order, each step durable before the next: the note (beside the topmost layer: what is merged, by
// identity), the merged file under a name of its own, the exchange in the target, its name, the old files, the note.
// Whoever comes after a cut finds the note, and goes on at the first step that is not done.
#include "device/compact.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "chain/output.hpp"
#include "chain/points.hpp"
#include "device/start.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header_bytes.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::string note_of(const std::string& path) { return path + ".compact"; }
std::string merging_name(const std::string& path) { return path + ".merging"; }
std::string merging_chain(const std::string& path) { return path + ".merging.chain"; }

// A file as it was when the plan was made: it is only ever taken away if it is that one still.
struct Known {
    std::string path;
    std::uint64_t inode = 0, bytes = 0;
    std::int64_t mtime_sec = 0;
    std::uint32_t mtime_nsec = 0;

    bool is(const Identity& i) const {
        return !i.block_device && i.inode == inode && i.bytes == bytes && i.mtime_sec == mtime_sec && i.mtime_nsec == mtime_nsec;
    }
    bool is_there() const {
        std::error_code none;
        return fs::is_regular_file(fs::symlink_status(path, none)) && is(identity_of(path));
    }
};

Known known(const std::string& path) {
    const Identity i = identity_of(path);
    return {path, i.inode, i.bytes, i.mtime_sec, i.mtime_nsec};
}

void to_json(Json& j, const Known& k) {
    j = {{"path", k.path}, {"inode", k.inode}, {"bytes", k.bytes}, {"mtime_sec", k.mtime_sec}, {"mtime_nsec", k.mtime_nsec}};
}
void from_json(const Json& j, Known& k) {
    j.at("path").get_to(k.path);
    j.at("inode").get_to(k.inode);
    j.at("bytes").get_to(k.bytes);
    j.at("mtime_sec").get_to(k.mtime_sec);
    j.at("mtime_nsec").get_to(k.mtime_nsec);
}

struct Note {
    std::string path;        // of the merged file in the end
    std::vector<Known> old;  // base first; the last one has that path
    bool copied = false;
    Known merged{};  // once it is copied
};

void write_note(const Note& n) {
    const Json j = {{"path", n.path}, {"old", n.old}, {"copied", n.copied}, {"merged", n.merged}};
    const std::string text = j.dump(1) + "\n";
    chain::Output out(note_of(n.path));
    out.write(text.data(), text.size(), 0);
    out.commit(true);
}

Note read_note(const std::string& file) {
    std::ifstream in(file);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    try {
        const Json j = Json::parse(text);
        return {j.at("path"), j.at("old"), j.at("copied"), j.at("merged")};
    } catch (const Json::exception&) {
        throw failed("{}: is not the note of a merge: look at it, and at the layers it lies beside, and remove it",
                     escaped(file));
    }
}

// That of a merge of the device's layers that was cut off.
std::optional<Note> find_note(const Live& device) {
    std::error_code none;
    for (const dm::OpenLayer& l : device.layers) {
        std::string path = l.path;
        if (path.ends_with(merging_name(""))) path.resize(path.size() - merging_name("").size());
        if (!l.device && fs::exists(note_of(path), none)) return read_note(note_of(path));
    }
    return std::nullopt;
}

void remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        throw failed("{}: cannot remove it: {}", escaped(path), std::strerror(errno));
    sync_folder_of(path);
}

const dm::OpenLayer* find(const Live& device, const Known& k) {
    for (const dm::OpenLayer& l : device.layers)
        if (!l.device && l.inode == k.inode && (l.path == k.path || l.now == k.path)) return &l;
    return nullptr;
}

std::uint64_t on_disk(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? static_cast<std::uint64_t>(st.st_blocks) * 512 : 0;
}

// The layers from the one at @paths.front() up to the one at @paths.back(), and nothing below them.
qcow2::Chain open_range(const std::vector<std::string>& paths) {
    qcow2::ChainOptions o;
    o.depth = paths.size();
    // The device has them: they are trusted already.
    for (const std::string& p : paths) o.allow.push_back(fs::is_block_file(p) ? p : fs::path(p).parent_path().string());
    qcow2::Chain range(paths.back(), o);
    for (std::size_t i = 0; i < range.layers().size(); i++) {
        const File& file = range.layers()[i]->file();
        if (range.layers().size() != paths.size() || !file.identity().same_file(identity_of(paths[i])))
            throw failed("{}: the headers name {} there, the device has {}", escaped(paths.back()), in_quotes(file.path()),
                         in_quotes(paths[i]));
    }
    return range;
}

// ---- The steps ----

void copy(const Note& n, const chain::MergeSize& size, const CompactOptions& options) {
    std::vector<std::string> paths;
    for (const Known& k : n.old) {
        if (!k.is_there()) throw failed("{}: is not the file that it was when the merge began", escaped(k.path));
        paths.push_back(k.path);
    }
    const qcow2::Chain range = open_range(paths);
    chain::require_mergeable(range);
    const qcow2::Header& lowest = range.layers().front()->image()->header();
    chain::MergeTo to{merging_name(n.path)};
    if (lowest.backing_name) {
        to.backing_name = *lowest.backing_name;
        to.backing_format = lowest.backing_format.value_or("qcow2");
        // As the merged file's folder is another one, the name has to be.
        if (fs::path(paths.front()).parent_path() != fs::path(n.path).parent_path() && !to.backing_name.starts_with('/'))
            to.backing_name = (fs::path(paths.front()).parent_path() / to.backing_name).lexically_normal();
    }
    to.label = chain::label_of(range.top());  // it is the snapshot that the topmost layer was
    remove_file(to.path);
    chain::merge(range, size.bytes ? size : chain::measure(range), to, [&](std::uint64_t done) {
        if (options.progress) options.progress(done, size.bytes);
    });
    sync_folder_of(to.path);
}

// Returns when the target has ended the exchange.
void wait_for_exchange(const std::string& device) {
    for (;;) {
        const std::string state = dm::status(device).exchange;
        if (state.starts_with("failed"))
            throw failed(
                "{}: the target could not put the merged file in the place of the layers (the kernel log has the "
                "reason); nothing was lost: take the merged file away with --abort, or try again",
                escaped(device));
        if (state.starts_with("done") || state == "-") return;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

void put_in_place(const std::string& device, const Note& n) {
    const Live live = look_at(device);
    const dm::OpenLayer* first = find(live, n.old.front());
    const dm::OpenLayer* last = find(live, n.old.back());
    if (!first && !last) return;
    if (!first || !last)
        throw failed("{}: it has only some of the layers that were to be merged: {} says which", escaped(device),
                     in_quotes(note_of(n.path)));
    const std::string chain_file = merging_chain(n.path);
    remove_file(chain_file);
    qcow2::ChainOptions o;
    o.depth = 1;
    o.allow = {fs::path(n.path).parent_path()};
    build_chain_file(qcow2::Chain(merging_name(n.path), o), chain_file, false, false);
    dm::message(device, fmt::format("replace {} {} {}", first->id, last->id, dm::message_word(chain_file)));
    wait_for_exchange(device);
    if (find(look_at(device), n.old.front()))
        throw failed("{}: the exchange ended early, as the device was suspended or loaded anew: run the same command again",
                     escaped(device));
}

// The merged file takes the name of the topmost layer; until the chain file knows, it has both.
void take_name(const std::string& device, const Note& n, bool keep_old) {
    const std::string temporary = merging_name(n.path), second = n.path + ".named";
    if (n.old.back().is_there()) {
        if (keep_old) {
            const std::string old = n.path + ".old";
            if (::link(n.path.c_str(), old.c_str()) != 0 && errno != EEXIST)
                throw failed("{}: cannot keep it as {}: {}", escaped(n.path), in_quotes(old), std::strerror(errno));
        }
        remove_file(second);
        if (::link(temporary.c_str(), second.c_str()) != 0 || ::rename(second.c_str(), n.path.c_str()) != 0)
            throw failed("{}: cannot get the name {}: {}", escaped(temporary), in_quotes(n.path), std::strerror(errno));
        sync_folder_of(n.path);
    }
    Known named = n.merged;
    named.path = n.path;
    if (!named.is_there()) throw failed("{}: is neither the old layer nor the merged one", escaped(n.path));
    const Live live = look_at(device);
    const dm::OpenLayer* merged = find(live, named);
    if (!merged) merged = find(live, n.merged);
    if (!merged) throw failed("{}: has not the merged file {}", escaped(device), in_quotes(n.path));
    dm::message(device, fmt::format("moved {} {}", merged->id, dm::message_word(n.path)));
    remove_file(temporary);
    remove_file(merging_chain(n.path));
}

void remove_old(const Note& n) {
    for (std::size_t i = 0; i + 1 < n.old.size(); i++) {
        std::error_code none;
        if (n.old[i].is_there())
            remove_file(n.old[i].path);
        else if (fs::exists(n.old[i].path, none))
            fmt::print(stderr, "dmchain: {}: is another file than when the merge began: it stays\n", escaped(n.old[i].path));
    }
}

void run(const std::string& device, Note n, const chain::MergeSize& size, const CompactOptions& options) {
    if (!n.copied) {
        copy(n, size, options);
        n.merged = known(merging_name(n.path));
        n.copied = true;
        write_note(n);
    }
    put_in_place(device, n);
    take_name(device, n, options.keep_old);
    if (!options.keep_old) remove_old(n);
    remove_file(note_of(n.path));
}

// ---- Checks ----

// Other devices of this machine that have one of the files open.
void require_not_shared(const Live& device, const std::vector<dm::OpenLayer>& layers) {
    for (const dm::Device& d : dm::list_if_any()) {
        if (d.name == device.name) continue;
        for (const dm::OpenLayer& theirs : look_at(d.name).layers)
            for (const dm::OpenLayer& l : layers)
                if (!theirs.device && theirs.number == l.number && theirs.inode == l.inode)
                    throw failed("{}: the device {} has it, too: a layer that is shared is not merged", escaped(l.path),
                                 escaped(d.name));
    }
}

// Images beside the layers that stand on one that goes, besides the next layer of the device itself.
void require_no_other_child(const Live& device, const std::vector<std::string>& paths) {
    std::vector<Identity> going;
    for (std::size_t i = 0; i + 1 < paths.size(); i++) going.push_back(identity_of(paths[i]));
    std::vector<std::string> folders;
    for (const std::string& p : paths) folders.push_back(fs::path(p).parent_path());
    std::sort(folders.begin(), folders.end());
    folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
    for (const std::string& folder : folders)
        for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
            std::error_code none;
            if (!e.is_regular_file(none)) continue;
            const File file(e.path().string());
            const auto is_ours = [&](const dm::OpenLayer& l) { return l.is(file.identity()); };
            if (std::any_of(device.layers.begin(), device.layers.end(), is_ours) || !qcow2::has_magic(file)) continue;
            const std::optional<std::string> backing = qcow2::read_header(file, true).backing_name;
            if (!backing || backing->starts_with("json:")) continue;
            const fs::path named = fs::path(folder) / *backing;
            if (!fs::exists(named, none)) continue;
            const Identity below = identity_of(named.string());
            for (std::size_t i = 0; i < going.size(); i++)
                if (going[i].same_file(below))
                    throw failed("{}: stands on {}, which would go: merge only layers above that one, or below it",
                                 escaped(file.path()), in_quotes(paths[i]));
        }
}

void require_room(const std::string& path, std::uint64_t bytes) {
    struct statvfs st {};
    const std::string folder = fs::path(path).parent_path();
    if (::statvfs(folder.c_str(), &st) != 0)
        throw failed("{}: cannot look at its free space: {}", escaped(folder), std::strerror(errno));
    const std::uint64_t free = st.f_bavail * st.f_frsize;
    if (free < bytes)
        throw failed("{}: {} are free, the merged file takes up to {}: make room, or merge fewer layers", escaped(folder),
                     human_size(free), human_size(bytes));
}

}  // namespace

CompactTurn::CompactTurn(const Live& device) : fd_(::open(device.chain.path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw failed("{}: cannot open the chain file: {}", escaped(device.chain.path), std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    // "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"
    std::string who = "another process";
    std::ifstream locks("/proc/locks");
    const std::string inode = fmt::format(":{} ", device.chain.inode);
    for (std::string line; std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, type, mode, access, pid;
        if (line.find(inode) != std::string::npos && words >> number >> type >> mode >> access >> pid && type == "FLOCK")
            who = "process " + pid;
    }
    ::close(fd_);
    throw failed("{}: {} is changing its layers: wait until it is done", escaped(device.name), who);
}

CompactTurn::~CompactTurn() { ::close(fd_); }

CompactPlan plan_compact(const Live& device, const Range& range) {
    if (device.status.active == "-")
        throw failed("{}: the device can only be read: its layers cannot be exchanged", escaped(device.name));
    std::vector<dm::OpenLayer> images;
    for (const dm::OpenLayer& l : device.layers) {
        if (l.state != "data")
            images.push_back(l);
        else if (images.size() > range.first && images.size() <= range.last + 1)
            throw failed("{}: is the data file of a layer that was to be merged: such layers stay as they are", escaped(l.path));
    }
    if (range.first >= range.last || range.last >= images.size())
        throw Error(Exit::usage, fmt::format("compact: layers {}..{}: expected two or more of 0..{}, the lower one first",
                                             range.first, range.last, images.size() - 1));
    CompactPlan plan;
    plan.device = device.name;
    plan.layers.assign(images.begin() + static_cast<std::ptrdiff_t>(range.first),
                       images.begin() + static_cast<std::ptrdiff_t>(range.last) + 1);
    std::vector<std::string> paths;
    for (const dm::OpenLayer& l : plan.layers) {
        if (l.state != "sealed")
            throw failed("{}: is the {} layer: only sealed layers are merged; take a snapshot first", escaped(l.path), l.state);
        if (l.device) throw failed("{}: is a block device: only layers that are files are merged", escaped(l.path));
        paths.push_back(name_of(l, device.name));
    }
    plan.path = paths.back();
    plan.depth = images.size();
    require_not_shared(device, plan.layers);
    require_no_other_child(device, paths);
    const qcow2::Chain chain = open_range(paths);
    if (!chain.layers().front()->image())
        throw failed("{}: is a raw image: layers are not merged into that; begin the range above it", escaped(paths.front()));
    chain::require_mergeable(chain);
    std::vector<std::string> with_below = paths;
    if (range.first) with_below.insert(with_below.begin(), name_of(images[range.first - 1], device.name));
    chain::require_not_shrunk(open_range(with_below));
    std::error_code none;
    if (fs::exists(merging_name(plan.path), none))
        throw failed("{}: exists, and no merge left it: move it out of the way", escaped(merging_name(plan.path)));
    plan.size = chain::measure(chain);
    for (const std::string& p : paths) plan.freed += on_disk(p);
    require_room(plan.path, plan.size.space);
    return plan;
}

void compact(const CompactPlan& plan, const CompactOptions& options) {
    Note n;
    n.path = plan.path;
    for (const dm::OpenLayer& l : plan.layers) n.old.push_back(known(name_of(l, plan.device)));
    write_note(n);
    run(plan.device, n, plan.size, options);
}

bool resume_compact(const Live& device, const CompactOptions& options) {
    const std::optional<Note> n = find_note(device);
    if (!n) return false;
    wait_for_exchange(device.name);
    run(device.name, *n, {}, options);
    return true;
}

bool abort_compact(const Live& device) {
    const std::optional<Note> n = find_note(device);
    if (!n) return false;
    Known named = n->merged;
    named.path = n->path;
    if (n->copied && (find(device, n->merged) || find(device, named)))
        throw failed("{}: the merged file is one of its layers already: run 'dmchain compact {}' to go on", escaped(device.name),
                     escaped(device.name));
    remove_file(merging_name(n->path));
    remove_file(merging_chain(n->path));
    remove_file(note_of(n->path));
    return true;
}

}  // namespace dmchain::device
