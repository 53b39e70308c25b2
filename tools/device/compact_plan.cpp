// SPDX-License-Identifier: GPL-2.0-or-later
// See compact.hpp: which layers are merged, and whether they can be.
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "chain/add.hpp"
#include "chain/owner.hpp"
#include "device/compact.hpp"
#include "device/merge.hpp"
#include "device/merge_note.hpp"
#include "device/shared.hpp"

#include "io/no_room.hpp"
#include "io/qemu_lock.hpp"
#include "io/reflink.hpp"
#include "io/text.hpp"
#include "qcow2/refcounts.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

bool is_utf8(const std::string& text) {
    try {
        (void)nlohmann::json(text).dump();
        return true;
    } catch (const nlohmann::json::exception&) {
        return false;
    }
}

class Planner {
public:
    Planner(const Subject& subject, const std::vector<ChainImage>& images, const Shared& shared)
        : subject_(subject), images_(images), why_(images.size()) {
        for (std::size_t i = 0; i < images.size(); i++) why_[i] = reason(i, shared);
    }

    std::vector<Range> ranges(const Selection& s, std::vector<CompactPlan::Skipped>& skipped) {
        skipped_ = &skipped;
        if (s.range) return {explicit_range(find(s.range->first), find(s.range->second))};
        if (!s.remove.empty()) {
            std::vector<bool> goes(images_.size());
            for (const std::string& text : s.remove) goes[find(text)] = true;
            for (std::size_t i = 0; i < images_.size(); i++)
                if (goes[i]) require_removable(i);
            return runs(goes);
        }
        if (s.max_layers) return fewest(s.max_layers);
        std::vector<bool> goes(images_.size(), true);
        // The topmost sealed one stays: the disk stands on it.
        for (std::size_t i = topmost_sealed(); i < images_.size(); i++) goes[i] = false;
        if (s.keep)
            for (const std::string& text : *s.keep) goes[find(text)] = false;
        if (s.older_than)
            for (std::size_t i = 0; i < images_.size(); i++) goes[i] = goes[i] && images_[i].time() < *s.older_than;
        if ((s.flatten || s.into_base) && topmost_sealed() > 0) return {explicit_range(0, topmost_sealed())};
        return runs(goes);
    }

private:
    std::size_t find(const std::string& text) const { return find_image(images_, text); }
    std::size_t topmost_sealed() const { return device::topmost_sealed(images_, subject_.name); }

    // Why the image must not be merged, or "".
    std::string reason(std::size_t number, const Shared& shared) const {
        const ChainImage& i = images_[number];
        std::error_code none;
        if (i.state == ChainImage::State::growing) return "is being changed by a command that was cut off: run that again";
        if (i.state == ChainImage::State::active)
            return "is the active layer: only sealed layers are merged; take a snapshot first";
        if (i.state == ChainImage::State::frozen)
            return "is frozen, and not sealed yet: only sealed layers are merged; wait for that, or run 'dmchain seal'";
        if (i.identity.block_device) return "is a block device: only layers that are files are merged";
        if (i.has_data_file) return "has an external data file: such layers stay as they are";
        if (!i.holds_more.empty()) return i.holds_more;
        if (i.is_part) return "is a part of a file: such layers stay as they are";
        if (fs::is_symlink(fs::symlink_status(i.path, none)))
            return "is a symbolic link: only files under their own names are merged";
        if (!is_utf8(i.path)) return "has a name that is not UTF-8, which the note of a merge cannot hold: rename it";
        if (shared.why(number)) return *shared.why(number) + ": a layer that others use stays as it is; merge those above it";
        return "";
    }

    Range explicit_range(std::size_t first, std::size_t last) const {
        if (first >= last)
            throw Error(Exit::usage, fmt::format("compact: layers {} to {}: expected two or more of 0 to {}, the lower one first",
                                                 first, last, images_.size() - 1));
        for (std::size_t i = first; i <= last; i++) require_free(i);
        return {first, last};
    }

    void require_free(std::size_t i) const {
        if (!why_[i].empty()) throw failed("{}: {}", escaped(images_[i].path), why_[i]);
    }

    // A snapshot is deleted by merging it into the one above.
    void require_removable(std::size_t i) const {
        require_free(i);
        if (i + 1 == images_.size())
            throw failed("{}: is the image on top of the chain: deleting that is 'dmchain rollback', or removing the file",
                         escaped(images_[i].path));
        if (images_[i + 1].state == ChainImage::State::active)
            throw failed("{}: the layer above it is the active one, into which nothing is merged: take a snapshot first",
                         escaped(images_[i].path));
        if (!why_[i + 1].empty())
            throw failed("{}: is merged into the layer above it, {}, but that {}", escaped(images_[i].path),
                         in_quotes(images_[i + 1].path), why_[i + 1]);
    }

    // The longest ranges in which all but the topmost go; what cannot go is skipped.
    std::vector<Range> runs(const std::vector<bool>& goes) {
        std::vector<Range> out;
        for (std::size_t i = 0; i < images_.size(); i++) {
            if (!goes[i]) continue;
            std::size_t last = i;
            while (goes[last] && why_[last].empty() && last + 1 < images_.size() && why_[last + 1].empty()) last++;
            if (last > i) out.push_back({i, last});
            i = last;
            if (goes[i])
                skipped_->push_back(
                    {i, !why_[i].empty() ? why_[i] : "would be merged into the layer above it, which " + why_[i + 1]});
        }
        std::reverse(out.begin(), out.end());
        std::reverse(skipped_->begin(), skipped_->end());
        return out;
    }

    // The neighbours above the base whose files are the smallest, so that @most images are left.
    std::vector<Range> fewest(std::size_t most) const {
        if (images_.size() <= most) return {};
        const std::size_t merged = images_.size() - most + 1;
        std::optional<Range> best;
        std::uint64_t least = 0;
        for (std::size_t first = 1; first + merged <= images_.size(); first++) {
            std::uint64_t sum = 0;
            std::size_t i = first;
            for (; i < first + merged && why_[i].empty(); i++) sum += images_[i].file_used;
            if (i < first + merged || (best && sum >= least)) continue;
            best = Range{first, first + merged - 1};
            least = sum;
        }
        if (best) return {*best};
        std::string why;
        for (std::size_t i = 1; i < images_.size() && why.empty(); i++)
            if (!why_[i].empty()) why = fmt::format(" ({}: {})", escaped(images_[i].path), why_[i]);
        throw failed("{}: {} layers cannot become {}: the base, and layers that cannot be merged, stay{}", escaped(subject_.name),
                     images_.size(), most, why);
    }

    const Subject& subject_;
    const std::vector<ChainImage>& images_;
    std::vector<std::string> why_;
    std::vector<CompactPlan::Skipped>* skipped_ = nullptr;
};

// No other program may have a file open that goes, as it would not find it again, nor write to one until it is merged.
void require_closed(const qcow2::Chain& range) {
    std::vector<const File*> files;
    for (const auto& l : range.layers()) files.push_back(&l->file());
    require_no_user(files);
    for (const File* f : files) require_image_lock(f->fd(), f->path(), ImageUse::read);
}

// @merges, in this order, each in the folder of its topmost layer.
std::uint64_t require_room(const CompactPlan& plan, bool keep_old) {
    struct Room {
        std::string folder;
        std::uint64_t free = 0, block = 0;
        std::int64_t used = 0, peak = 0;
    };
    std::map<std::uint64_t, Room> rooms;  // by the file system's device
    std::int64_t peak = 0;
    for (const CompactPlan::Merge& m : plan.merges) {
        const ChainImage& top = plan.images[m.range.last];
        Room& r = rooms[top.identity.device];
        if (r.folder.empty()) {
            struct statvfs st {};
            r.folder = fs::path(top.path).parent_path().string();
            if (::statvfs(r.folder.c_str(), &st) != 0)
                throw failed("{}: cannot look at its free space: {}", escaped(r.folder), std::strerror(errno));
            r.free = st.f_bavail * st.f_frsize;
        }
        r.peak = std::max(r.peak, r.used + static_cast<std::int64_t>(m.size.space));
        r.used += static_cast<std::int64_t>(m.size.space) - (keep_old ? 0 : static_cast<std::int64_t>(m.freed));
        peak = std::max(peak, r.peak);
        if (r.free < static_cast<std::uint64_t>(r.peak))
            throw failed("{}: {} are free, the merged files take up to {}: make room, or merge fewer layers", escaped(r.folder),
                         human_size(r.free), human_size(static_cast<std::uint64_t>(r.peak)));
    }
    return static_cast<std::uint64_t>(peak);
}

// Adding to the lowest layer cannot be given up once it has begun, nor does it leave the snapshots between as they were: that must
// be worth it.
constexpr std::uint64_t much = std::uint64_t{1} << 30;  // bytes

// Adding the upper layers of @range to its lowest one.
class Adding {
public:
    Adding(const qcow2::Chain& range, const qcow2::Chain& upper, const std::vector<std::string>& paths)
        : low_(*range.layers().front()), upper_(upper), paths_(paths), why_(reason()) {}

    // Why not, or "".
    const std::string& why_not() const { return why_; }
    chain::MergeSize size() const { return chain::measure_add(low_, upper_); }
    // Throws damaged() if what is written over in one place could be seen in another.
    void require_sound() const {
        qcow2::Faults faults;
        const auto no = [](std::uint64_t) { return false; };
        qcow2::check_refcounts(*low_.image(), no, faults);
    }

private:
    std::string reason() const {
        if (fs::path(paths_.front()).parent_path() != fs::path(paths_.back()).parent_path())
            return "lies in another folder than the topmost of them";
        return chain::cannot_add_to(low_, upper_).value_or("");
    }

    const qcow2::Layer& low_;
    const qcow2::Chain& upper_;
    const std::vector<std::string>& paths_;
    std::string why_;
};

// Bytes that are free where the file is; 0: that cannot be said.
std::uint64_t free_for(const std::string& path) {
    struct statvfs st {};
    return ::statvfs(fs::path(path).parent_path().c_str(), &st) == 0 ? std::uint64_t{st.f_bavail} * st.f_frsize : 0;
}

// Bytes of a block that the merged file can share with the layers' files; 0: with some of them it cannot, @why says with which.
std::uint64_t shared_block(const std::vector<std::string>& paths, std::string& why) {
    const std::string folder = fs::path(paths.back()).parent_path().string();
    std::map<std::string, std::uint64_t> tried;
    for (const std::string& p : paths) {
        const auto [other, fresh] = tried.try_emplace(fs::path(p).parent_path().string());
        if (fresh) other->second = can_share_blocks(other->first, folder);
        if (other->second) continue;
        why = fmt::format("{}: files in {} cannot share its blocks: that takes one file system, xfs made with reflink=1 or btrfs",
                          escaped(p), in_quotes(folder));
        return 0;
    }
    return tried.begin()->second;
}

// The cheapest way, or the one that was asked for.
void choose_way(CompactPlan::Merge& m, const Selection& s, const std::vector<std::string>& paths) {
    const qcow2::Chain& range = *m.layers;
    const std::optional<Way> asked = s.into_base ? Way::in_place : s.way;
    std::string no_sharing;
    std::uint64_t block = 0;
    try {
        if (!asked || asked == Way::reflink) block = shared_block(paths, no_sharing);
    } catch (const NoRoom&) {
        if (asked) throw;  // otherwise in place at most
    }
    if (asked == Way::reflink && !block) throw failed("{}", no_sharing);
    m.size = chain::measure(range, false, block);
    if (asked == Way::reflink || (!asked && m.size.shareable)) {
        m.way = Way::reflink;
        // What is shared is there already.
        m.size.space -= std::min(m.size.space, m.size.shareable);
        return;
    }
    if (asked == Way::new_file || asked == Way::compress) {
        m.way = *asked;
        return;
    }
    auto upper = std::make_shared<const qcow2::Chain>(range.part(1, range.layers().size() - 1));
    const Adding adding(range, *upper, paths);
    if (asked && !adding.why_not().empty())
        throw failed("{}: layers cannot be added to it: it {}; merge them into a new file", escaped(paths.front()),
                     adding.why_not());
    if (asked && s.keep_old)
        throw Error(Exit::usage, "compact: --keep-old: layers that are added to another one leave nothing to keep of it");
    if (!adding.why_not().empty()) return;
    const bool has_room = free_for(paths.back()) >= m.size.space;
    if (!asked && has_room && (s.keep_old || m.size.bytes < much)) return;  // whatever adding takes
    const chain::MergeSize add = adding.size();
    const bool little = add.bytes < m.size.bytes / 2 && m.size.bytes - add.bytes >= much;
    const bool cheaper = !s.keep_old && add.space < m.size.space && (little || !has_room);
    if (!asked && !cheaper) return;
    adding.require_sound();
    m.way = Way::in_place;
    m.size = add;
    m.layers = std::move(upper);
}

CompactPlan::Merge plan_merge(const std::vector<ChainImage>& images, const qcow2::Chain& chain, const Range& range,
                              const Selection& selection) {
    std::vector<std::string> paths;
    CompactPlan::Merge out{.range = range};
    for (std::size_t i = range.first; i <= range.last; i++) {
        paths.push_back(images[i].path);
        out.freed += images[i].file_used;
    }
    out.layers = std::make_shared<const qcow2::Chain>(chain.part(range.first, range.last));
    require_closed(*out.layers);
    MergeNote note;
    note.path = paths.back();
    std::error_code none;
    for (const std::string& p : {note.file(), note.merging(), paths.front() + ".compact"})
        if (fs::exists(fs::symlink_status(p, none)))
            throw failed("{}: exists, and no merge of this chain left it: move it out of the way", escaped(p));
    chain::require_mergeable(*out.layers);
    chain::require_not_shrunk(range.first ? images[range.first - 1].virtual_size : 0, *out.layers);
    choose_way(out, selection, paths);
    if (out.way != Way::in_place) (void)name_below(*out.layers, note.path);
    if (out.way == Way::in_place) out.freed -= images[range.first].file_used;
    return out;
}

}  // namespace

std::size_t CompactPlan::layers_left() const {
    std::size_t n = images.size();
    for (const Merge& m : merges) n -= m.range.last - m.range.first;
    return n;
}

CompactPlan plan_compact(const Subject& subject, const Selection& selection, const std::vector<std::string>& registry,
                         const qcow2::ChainOptions& options) {
    if (subject.device && !subject.device->active())
        throw failed("{}: the device can only be read: its layers cannot be exchanged", escaped(subject.name));
    CompactPlan plan;
    const qcow2::Chain chain = subject.open(options);
    plan.images = images_of(subject, chain);
    plan.registry = registry;
    const ChainImage& top = plan.images.back();
    if (!subject.device && top.state != ChainImage::State::sealed) chain::require_ours(top.path, false);
    const Shared shared(subject, plan.images, registry);
    plan.rest = shared.at_rest(options);
    const std::vector<Range> ranges = Planner(subject, plan.images, shared).ranges(selection, plan.skipped);
    for (const Range& r : ranges) {
        plan.merges.push_back(plan_merge(plan.images, chain, r, selection));
        plan.copied += plan.merges.back().size.copied();
        plan.freed += plan.merges.back().freed;
    }
    plan.peak = require_room(plan, selection.keep_old);
    return plan;
}

std::optional<double> copy_seconds(const CompactPlan& plan, std::uint64_t rate) {
    if (!plan.copied) return 0;
    const auto by_copied = [](const auto& a, const auto& b) { return a.size.copied() < b.size.copied(); };
    const CompactPlan::Merge& most = *std::max_element(plan.merges.begin(), plan.merges.end(), by_copied);
    const std::string folder = fs::path(plan.images[most.range.last].path).parent_path().string();
    double measured = chain::measure_rate(*most.layers, folder);
    if (measured <= 0) return std::nullopt;
    if (rate) measured = std::min(measured, static_cast<double>(rate));
    return static_cast<double>(plan.copied) / measured;
}

}  // namespace dmchain::device
