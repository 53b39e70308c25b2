// SPDX-License-Identifier: GPL-2.0-or-later
// See prune.hpp. In order, each step durable before the next: the target lets the layers be written, their labels say what they are,
// what nobody sees is punched out, the target closes them again. What a reader of the chain sees is never touched.
#include "device/prune.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "chain/owner.hpp"
#include "chain/unseen.hpp"
#include "device/growing.hpp"
#include "device/merge_note.hpp"
#include "device/shared.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/header.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

using State = ChainImage::State;

// Why the layer stays as it is; "": it can be pruned.
std::string why_not(const ChainImage& i, const qcow2::Image* image, const Shared& shared, std::size_t number) {
    if (i.identity.block_device) return "is a block device: only layers that are files are pruned";
    if (i.has_data_file) return "has an external data file: such layers stay as they are";
    if (!i.holds_more.empty()) return i.holds_more;
    if (!image) return "is a raw image, in which nothing can say that it is no snapshot any more: merge it, or use --into-base";
    if (!image->header().label_at)
        return "was made by another program, or an older version, so nothing in it can say that it is no snapshot any more: "
               "merge it";
    if (shared.why(number)) return *shared.why(number) + ": a layer that others use stays as it is";
    return "";
}

// Bytes of the range that take room on disk.
std::uint64_t on_disk(const File& file, std::uint64_t from, std::uint64_t bytes) {
    std::uint64_t sum = 0;
    for (std::uint64_t at = from; at < from + bytes;) {
        const off_t data = ::lseek(file.fd(), static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 || static_cast<std::uint64_t>(data) >= from + bytes) break;
        const off_t hole = ::lseek(file.fd(), data, SEEK_HOLE);
        at = hole < 0 ? from + bytes : std::min(from + bytes, static_cast<std::uint64_t>(hole));
        sum += at - static_cast<std::uint64_t>(data);
    }
    return sum;
}

void mark(const ChainImage& image) {
    qcow2::Label label = image.label.value_or(qcow2::Label{image.time()});
    if (label.pruned) return;
    label.name.clear();
    label.note.clear();
    label.pruned = true;
    qcow2::write_label(image.path, label);
}

}  // namespace

PrunePlan plan_prune(const Subject& subject, const std::vector<std::string>& keep, const std::vector<std::string>& registry,
                     const qcow2::ChainOptions& options) {
    if (subject.device && !subject.device->active())
        throw failed("{}: the device can only be read: its layers cannot be changed", escaped(subject.name));
    PrunePlan p;
    const qcow2::Chain chain = subject.open(options);
    p.images = images_of(subject, chain);
    const ChainImage& top = p.images.back();
    if (!subject.device && top.state != State::sealed) chain::require_ours(top.path, false);
    const Shared shared(subject, p.images, registry);
    p.rest = shared.at_rest(options);
    p.points.assign(topmost_sealed(p.images, subject.name) + 1, false);
    p.points.back() = true;
    for (const std::string& text : keep) {
        const std::size_t number = find_image(p.images, text);
        if (number < p.points.size()) p.points[number] = true;
    }
    std::map<std::size_t, std::size_t> place;  // in p.layers
    std::vector<const File*> files;
    for (std::size_t i = 0; i + 1 < p.points.size(); i++) {
        if (p.points[i]) continue;
        const std::string why = why_not(p.images[i], chain.layers()[i]->image(), shared, i);
        if (!why.empty()) {
            p.points[i] = true;
            p.skipped.push_back({i, why});
            continue;
        }
        files.push_back(&chain.layers()[i]->file());
        place[i] = p.layers.size();
        p.layers.push_back({i});
    }
    require_no_user(files);
    // Snapshots that show something of what is given back, or was by an earlier run, be it of a layer below. None of them is a point.
    std::vector<bool> changed(p.points.size());
    chain::each_unseen(chain, p.points, [&](const chain::Unseen& u) {
        const auto found = place.find(u.layer);
        if (found == place.end()) return;
        const std::uint64_t bytes = on_disk(chain.layers()[u.layer]->file(), u.from, u.bytes);
        p.layers[found->second].freed += bytes;
        const auto& label = p.images[u.layer].label;
        if (bytes || (label && label->pruned))
            std::fill_n(changed.begin() + static_cast<std::ptrdiff_t>(u.layer), u.until - u.layer, true);
    });
    // The others stay snapshots, unless a run that was cut off has begun with them.
    std::erase_if(p.layers, [&](const PrunePlan::Layer& l) {
        const ChainImage& image = p.images[l.number];
        const bool told = !l.freed && image.label && image.label->pruned;
        return (!changed[l.number] || told) && image.state != State::growing;
    });
    for (const PrunePlan::Layer& l : p.layers) p.freed += l.freed;
    return p;
}

void prune(const Subject& subject, const PrunePlan& plan) {
    if (plan.layers.empty()) return;
    std::vector<std::string> paths;
    for (const PrunePlan::Layer& l : plan.layers) paths.push_back(plan.images[l.number].path);
    tell_growing(subject, plan.rest, paths, true);
    std::map<std::size_t, Writable> files;
    for (const PrunePlan::Layer& l : plan.layers) mark(plan.images[l.number]);
    for (const PrunePlan::Layer& l : plan.layers) files.emplace(l.number, Writable::open(plan.images[l.number].path));
    {
        qcow2::ChainOptions o = plan.rest.options();
        o.force_share = true;  // who writes to some of them is this process
        const qcow2::Chain chain = subject.open(o);
        chain::each_unseen(chain, plan.points, [&](const chain::Unseen& u) {
            const auto found = files.find(u.layer);
            if (found == files.end()) return;
            // The last cluster of a file may run past its end.
            const std::uint64_t end = std::min(u.from + u.bytes, found->second.size());
            if (u.from < end) found->second.punch(u.from, end - u.from);
        });
    }
    for (auto& [number, file] : files) file.sync();
    files.clear();
    tell_growing(subject, plan.rest, paths, false);
}

}  // namespace dmchain::device
