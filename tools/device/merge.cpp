// SPDX-License-Identifier: GPL-2.0-or-later
// See merge.hpp. In order, each step durable before the next: the note (beside the topmost layer), the merged file under a name
// of its own, the exchange in the target or in the chain files, its name, the old files. Whoever comes after a cut goes on at the
// first step that is not done.
#include "device/merge.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "chain/add.hpp"
#include "chain/compressed.hpp"
#include "chain/points.hpp"
#include "device/growing.hpp"
#include "device/shared.hpp"
#include "device/start.hpp"
#include "io/no_room.hpp"
#include "io/reflink.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/names.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

// Gone, but maybe not durably.
void unlink_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        throw failed("{}: cannot remove it: {}", escaped(path), std::strerror(errno));
}

}  // namespace

Below name_below(const qcow2::Chain& range, const std::string& path) {
    const qcow2::Image* image = range.layers().front()->image();
    if (!image || !image->header().backing_name) return {};
    const File& file = image->file();
    const std::optional<std::string>& declared = image->header().backing_format;
    const qcow2::NamedFile named = qcow2::parse_file_name(escaped(file.path()), *image->header().backing_name, declared);
    const fs::path folder = fs::path(file.name()).parent_path();
    const std::string whole = (folder / named.path).lexically_normal();  // of an absolute one, itself
    Below out{*image->header().backing_name, declared.value_or("")};
    if (folder != fs::path(path).parent_path() && !named.path.starts_with('/')) {
        if (!named.windows.empty() || named.data_file || named.alone)
            throw failed(
                "{}: names {} as what it stands on, from its own folder: merge it within that, or give an absolute name "
                "with 'qemu-img rebase -u' first",
                escaped(file.path()), in_quotes(out.name));
        out.name = whole;
    }
    if (out.format.empty())
        out.format = qcow2::name_of(named.format                    ? *named.format
                                    : qcow2::has_magic(File(whole)) ? qcow2::Format::qcow2
                                                                    : qcow2::Format::raw);
    return out;
}

void remove_file(const std::string& path) {
    unlink_file(path);
    sync_folder_of(path);
}

namespace {

// The layers from the one at @paths.front() up to the one at @paths.back(), and nothing below them. Throws failed() if the headers
// name others.
qcow2::Chain open_range(const std::vector<std::string>& paths) {
    qcow2::ChainOptions o;
    o.depth = paths.size();
    // The chain was opened with them: they are trusted already.
    for (const std::string& p : paths) o.allow.push_back(fs::is_block_file(p) ? p : fs::path(p).parent_path().string());
    qcow2::Chain range(paths.back(), o);
    for (std::size_t i = 0; i < range.layers().size(); i++) {
        const File& file = range.layers()[i]->file();
        if (range.layers().size() != paths.size() || !file.identity().same_file(identity_of(paths[i])))
            throw failed("{}: the headers name {} there, expected {}", escaped(paths.back()), in_quotes(file.path()),
                         in_quotes(paths[i]));
    }
    return range;
}

// Those that were planned to be copied, which are not kept open any longer than this one, or opened at @paths.
std::shared_ptr<const qcow2::Chain> take_layers(CompactPlan::Merge* planned, const std::vector<std::string>& paths) {
    if (planned && planned->layers) return std::exchange(planned->layers, nullptr);
    return std::make_shared<const qcow2::Chain>(open_range(paths));
}

const dm::OpenLayer* find(const Live& device, const KnownFile& k) {
    for (const dm::OpenLayer& l : device.layers) {
        if (l.device || l.inode != k.inode) continue;
        if (l.path == k.path || l.now == k.path || leads_to(k.path, l)) return &l;
    }
    return nullptr;
}

// The layers' paths. Throws failed() if they are not what they were.
std::vector<std::string> paths_of(const MergeNote& n) {
    std::vector<std::string> out;
    for (const KnownFile& k : n.old) {
        const auto there = n.adding && out.empty() ? find_identity(k.path) : std::nullopt;
        const bool grows = there && there->inode == k.inode;
        if (!grows && !k.is_there()) throw failed("{}: is not the file that it was when the merge began", escaped(k.path));
        out.push_back(k.path);
    }
    return out;
}

// It is the snapshot that the topmost layer was, taken then.
qcow2::Label label_of(const MergeNote& n, const qcow2::Layer& top) {
    return chain::label_of(top).value_or(qcow2::Label{n.old.back().mtime_sec});
}

// Of layers that a device has (@in_use), or has not.
std::uint64_t request_of(bool in_use) { return in_use ? chain::request_bytes_in_use : chain::request_bytes; }

// Whether it was not told to stop.
bool copy(const MergeNote& n, bool in_use, CompactPlan::Merge* planned, const CompactOptions& options) {
    const std::vector<std::string> paths = paths_of(n);
    const auto layers = take_layers(planned, paths);
    const qcow2::Chain& range = *layers;
    chain::require_mergeable(range);
    chain::MergeTo to{n.merging()};
    const Below below = name_below(range, n.path);
    to.backing_name = below.name;
    to.backing_format = below.format;
    to.label = label_of(n, range.top());
    to.goes_on = true;
    to.share = n.way == Way::reflink;
    to.rate = options.rate;
    to.request = request_of(in_use);
    to.stop = options.stop;
    const chain::MergeSize all = planned ? planned->size : chain::measure(range);
    const auto progress = [&](std::uint64_t bytes) {
        if (options.progress) options.progress(bytes, all.bytes);
    };
    const bool done =
        n.way == Way::compress ? chain::merge_compressed(range, to, progress) : chain::merge(range, all, to, progress);
    if (done && options.verify) chain::require_same(range, to.path);
    sync_folder_of(to.path);
    return done;
}

// ---- Adding to the lowest layer ----

// Whether it was not told to stop.
bool add(MergeNote& n, bool in_use, CompactPlan::Merge* planned, const CompactOptions& options) {
    const std::vector<std::string> paths = paths_of(n);
    const auto layers = take_layers(planned, {paths.begin() + 1, paths.end()});
    const qcow2::Chain& upper = *layers;
    chain::AddTo to;
    to.path = n.unnamed();
    to.top = paths.back();
    to.chain = n.rest.options();
    for (const std::string& p : paths) to.chain.allow.push_back(fs::path(p).parent_path().string());
    to.label = label_of(n, upper.top());
    to.rate = options.rate;
    to.request = request_of(in_use);
    to.stop = options.stop;
    to.from = n.added;
    to.goes_on = n.adding;
    n.adding = true;
    write_note(n);
    to.durable = [&](std::uint64_t at) {
        n.added = at;
        write_note(n);
    };
    const std::uint64_t all = planned ? planned->size.bytes : chain::measure_add(open_range({paths.front()}).top(), upper).bytes;
    const bool done = chain::add(upper, to, [&](std::uint64_t bytes) {
        if (options.progress) options.progress(bytes, all);
    });
    if (done && options.verify) chain::require_same(open_range(paths), to.path);
    sync_folder_of(to.path);
    return done;
}

// ---- Who else uses the layers ----

// Of the chain as it is now: snapshots of a device may have been taken since. Path and identity alone.
std::vector<ChainImage> images_now(const Subject& now, const MergeNote& n) {
    if (!now.device) return images_of(now, now.open(n.rest.options()));
    std::vector<ChainImage> out;
    for (const dm::OpenLayer& l : now.device->layers) {
        if (l.state == "data") continue;
        out.emplace_back();
        out.back().path = l.path;
        out.back().identity = l.identity();
    }
    return out;
}

// Why each of the layers that go has to stay, as far as somebody else refers to it now.
std::vector<std::optional<std::string>> who_uses(const Subject& subject, const MergeNote& n) {
    const Subject now = subject.device ? device::subject(subject.name) : subject;
    std::vector<ChainImage> images = images_now(now, n);
    std::vector<std::optional<std::size_t>> place(n.old.size());
    for (std::size_t i = 0; i < n.old.size(); i++) {
        const std::optional<Identity> who = find_identity(n.old[i].path);
        if (!who) continue;
        const auto same = [&](const ChainImage& image) { return image.identity.same_file(*who); };
        const auto found = std::find_if(images.begin(), images.end(), same);
        place[i] = static_cast<std::size_t>(found - images.begin());
        if (found != images.end()) continue;
        // It is no part of the chain any more. What others have of the chain does not count for it.
        images.push_back({});
        images.back().path = n.old[i].path;
        images.back().identity = *who;
    }
    const Shared shared(now, images, n.registry);
    std::vector<std::optional<std::string>> out;
    for (const auto& at : place) out.push_back(at ? shared.why(*at) : std::nullopt);
    return out;
}

// Again, as somebody may have come since the plan was made: before the step that cannot be undone.
void require_unshared(const Subject& subject, const MergeNote& n) {
    const auto why = who_uses(subject, n);
    for (std::size_t i = 0; i < why.size(); i++)
        if (why[i])
            throw failed("{}: {}, since the merge began: it stays; take away what was copied with --abort",
                         escaped(n.old[i].path), *why[i]);
}

// ---- The exchange ----

bool is_over(const std::string& state) { return state.starts_with("done") || state.starts_with("failed") || state == "-"; }

// Returns how the last one of the device ended, when it has.
std::string wait_for_exchange(const std::string& device) {
    using std::chrono::milliseconds;
    for (milliseconds pause(1);; pause = std::min(pause * 2, milliseconds(50))) {
        const std::string state = dm::status(device).exchange;
        if (is_over(state)) return state;
        std::this_thread::sleep_for(pause);
    }
}

// In place the lowest layer stays.
const KnownFile& lowest_that_goes(const MergeNote& n) { return n.old[n.way == Way::in_place]; }

void exchange_in_device(const std::string& device, const MergeNote& n) {
    // One that whoever was cut off had begun.
    (void)wait_for_exchange(device);
    const Live live = look_at(device);
    const dm::OpenLayer* first = find(live, lowest_that_goes(n));
    const dm::OpenLayer* last = find(live, n.old.back());
    if (!first && !last) return;
    if (!first || !last)
        throw failed("{}: it has only some of the layers that were to be merged: {} says which", escaped(device),
                     in_quotes(n.file()));
    remove_file(n.merging_chain());
    qcow2::ChainOptions o;
    o.depth = 1;
    o.allow = {fs::path(n.path).parent_path()};
    build_chain_file(qcow2::Chain(n.unnamed(), o), n.merging_chain(), false, false);
    dm::message(device, fmt::format("replace {} {} {}", first->id, last->id, dm::message_word(n.merging_chain())));
    if (wait_for_exchange(device).starts_with("failed"))
        throw failed(
            "{}: the target could not put the merged file in the place of the layers (the kernel log has the "
            "reason); nothing was lost: take the merged file away with --abort, or try again",
            escaped(device));
    if (find(look_at(device), lowest_that_goes(n)))
        throw failed("{}: the exchange ended early, as the device was suspended or loaded anew: run the same command again",
                     escaped(device));
}

bool has_name(const MergeNote& n) { return !n.old.back().is_there(); }

void exchange(const Subject& subject, const MergeNote& n) {
    if (subject.device)
        exchange_in_device(subject.name, n);
    else if (!has_name(n))
        rebuild_chain_files(subject, n.rest, {}, std::pair(n.path, n.unnamed()));
}

// ---- The name ----

// Until the chain file knows, the merged file has both.
void take_name(const Subject& subject, ChainTurn& turn, const MergeNote& n, bool keep_old) {
    if (has_name(n)) return;
    const std::string temporary = n.unnamed(), second = n.path + ".named";
    if (keep_old) {
        const std::string old = n.path + ".old";
        if (::link(n.path.c_str(), old.c_str()) != 0 && errno != EEXIST)
            throw_not_written(escaped(n.path), fmt::format("keep it as {}", in_quotes(old)), errno);
    }
    remove_file(second);
    const auto rename = [&] {
        if (::link(temporary.c_str(), second.c_str()) != 0 || ::rename(second.c_str(), n.path.c_str()) != 0)
            throw_not_written(escaped(temporary), fmt::format("get the name {}", in_quotes(n.path)), errno);
    };
    if (!subject.device && identity_of(subject.top).same_file(identity_of(n.path)))
        turn.carry_over(temporary, rename);
    else
        rename();
    sync_folder_of(n.path);
}

void tell_name(const Subject& subject, const MergeNote& n) {
    KnownFile named = n.merged;
    named.path = n.path;
    if (!named.is_there()) throw failed("{}: is neither the old layer nor the merged one", escaped(n.path));
    if (subject.device) {
        const Live live = look_at(subject.name);
        const dm::OpenLayer* merged = find(live, named);
        if (!merged) merged = find(live, n.merged);
        if (!merged) throw failed("{}: has not the merged file {}", escaped(subject.name), in_quotes(n.path));
        dm::message(subject.name, fmt::format("moved {} {}", merged->id, dm::message_word(n.path)));
    } else {
        rebuild_chain_files(subject, n.rest);
    }
    KnownFile unnamed = n.merged;
    unnamed.path = n.unnamed();
    if (unnamed.is_there()) remove_file(unnamed.path);
    remove_file(n.merging_chain());
}

void remove_old(const Subject& subject, const MergeNote& n) {
    const auto why = who_uses(subject, n);
    std::set<std::string> folders;
    for (std::size_t i = n.way == Way::in_place; i + 1 < n.old.size(); i++) {
        std::error_code none;
        if (why[i]) {
            fmt::print(stderr, "dmchain: {}: {}, since the merge began: it stays\n", escaped(n.old[i].path), *why[i]);
        } else if (n.old[i].is_there()) {
            unlink_file(n.old[i].path);
            folders.insert(fs::path(n.old[i].path).parent_path().string());
        } else if (fs::exists(n.old[i].path, none)) {
            fmt::print(stderr, "dmchain: {}: is another file than when the merge began: it stays\n", escaped(n.old[i].path));
        }
    }
    for (const std::string& folder : folders) sync_folder_of(folder + "/");
}

// The target reads a file that shared blocks once through the file system, until that has forgotten it.
void unshare(const Subject& subject, MergeNote& n) {
    n.unsharing = true;
    write_note(n);
    tell_growing(subject, n.rest, {n.path}, true);
    forget_shared(n.path);
    tell_growing(subject, n.rest, {n.path}, false);
}

}  // namespace

void undo_exchange(const Subject& subject, const MergeNote& n) {
    if (n.way == Way::in_place)
        tell_growing(subject, n.rest, {n.old.front().path}, false);
    else if (!subject.device && n.copied)
        rebuild_chain_files(subject, n.rest);
}

bool is_landed(const Subject& subject, const MergeNote& n) {
    if (n.way == Way::in_place) return n.adding;
    if (!n.copied) return false;
    KnownFile named = n.merged;
    named.path = n.path;
    if (n.unsharing || named.is_there()) return true;
    return subject.device && find(*subject.device, n.merged);
}

bool run_merge(const Subject& subject, ChainTurn& turn, MergeNote& n, CompactPlan::Merge* planned,
               const CompactOptions& options) {
    if (n.unsharing) {
        unshare(subject, n);
        return true;
    }
    if (!n.copied) {
        if (n.way == Way::in_place) {
            if (!n.adding) require_unshared(subject, n);
            tell_growing(subject, n.rest, {n.old.front().path}, true);
        }
        const bool in_use = subject.device.has_value();
        if (!(n.way == Way::in_place ? add(n, in_use, planned, options) : copy(n, in_use, planned, options))) return false;
        // The chain files of a chain at rest are told by the exchange.
        if (n.way == Way::in_place && subject.device) tell_growing(subject, {}, {n.old.front().path}, false);
        if (n.way != Way::in_place && !options.keep_old) require_unshared(subject, n);
        n.merged = known_file(n.unnamed());
        n.copied = true;
        write_note(n);
    }
    exchange(subject, n);
    take_name(subject, turn, n, options.keep_old);
    tell_name(subject, n);
    if (!options.keep_old) {
        remove_old(subject, n);
        if (n.way == Way::reflink) unshare(subject, n);
    }
    return true;
}

}  // namespace dmchain::device
