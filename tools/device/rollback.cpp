// SPDX-License-Identifier: GPL-2.0-or-later
// See rollback.hpp. The new layer is made first; the device goes; the new chain file takes the place of the old one, at once, which is
// the moment in which it is done; the device comes back; at last the branch is sealed or removed. A cut leaves a chain file of
// before or after.
#include "device/rollback.hpp"

#include <unistd.h>

#include <ctime>
#include <filesystem>

#include "chain/points.hpp"
#include "device/background.hpp"
#include "device/merge.hpp"
#include "device/merge_note.hpp"
#include "device/shared.hpp"
#include "device/start.hpp"
#include "dm/users.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "qcow2/active.hpp"
#include "qcow2/header.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

RollbackPlan plan_rollback(const Subject& subject, const std::string& snapshot, const RollbackOptions& o) {
    if (!subject.device || !subject.device->active())
        throw failed("{}: is no device that can be written: 'dmchain clone' makes one on a snapshot", escaped(subject.name));
    require_no_merge(subject, o.chain);
    const std::vector<ChainImage> images = images_of(subject, subject.open(o.chain));
    const std::size_t number = find_image(images, snapshot);
    const ChainImage& image = images[number];
    if (image.state == ChainImage::State::active)
        throw failed("{}: is the active layer: give a snapshot, as 'dmchain snapshots {}' lists them", escaped(image.path),
                     escaped(subject.name));
    if (image.state == ChainImage::State::frozen)
        throw failed("{}: is not sealed yet: wait for that, or run 'dmchain seal {}'", escaped(image.path),
                     escaped(subject.name));
    if (image.state == ChainImage::State::growing)
        throw failed("{}: is being added to, by a merge that was cut off: finish that with 'dmchain compact {}'",
                     escaped(image.path), escaped(subject.name));
    chain::require_whole(image.label, image.path);
    require_settled(image.path);
    if (image.raw) throw failed("{}: is a raw image: the layer above it stays", escaped(image.path));
    dm::require_unused(subject.name);
    RollbackPlan plan;
    plan.snapshot = image.path;
    for (std::size_t i = number + 1; i < images.size(); i++) plan.left.push_back(images[i]);
    if (o.drop) {
        const Shared shared(subject, images, o.registry);
        for (std::size_t i = number + 1; i < images.size(); i++) {
            if (shared.why(i)) throw failed("{}: cannot be dropped: {}", escaped(images[i].path), *shared.why(i));
            if (images[i].identity.block_device || images[i].has_data_file)
                throw failed("{}: cannot be dropped: only layers that are files of their own are removed: leave out --drop",
                             escaped(images[i].path));
        }
    }
    if (o.layer.empty() && images.back().identity.block_device)
        throw Error(Exit::usage, "rollback: the active layer is a block device: name the next one with --layer");
    plan.layer = lasting_name(o.layer.empty() ? qcow2::next_layer_name(images.back().path) : o.layer);
    check_layer_place(plan.layer);
    return plan;
}

namespace {

// Only if the path leads to that file still.
void drop(const ChainImage& layer) {
    std::error_code none;
    if (fs::is_regular_file(fs::symlink_status(layer.path, none)) && layer.identity.same_file(identity_of(layer.path)))
        remove_file(layer.path);
    else if (fs::exists(layer.path, none))
        fmt::print(stderr, "dmchain: {}: is not the layer that the device had: it stays\n", escaped(layer.path));
}

// The branch: sealed, with the time of its last state; or gone.
void leave(const RollbackPlan& plan, const RollbackOptions& o) {
    if (o.drop) {
        for (std::size_t i = plan.left.size(); i-- > 0;) drop(plan.left[i]);
        return;
    }
    SealHow how;
    how.allow = o.chain.allow;
    how.assume_raw = o.chain.assume_raw;
    for (const ChainImage& i : plan.left) {
        const qcow2::Header header = qcow2::read_header(File(i.path), true, true);
        if (!header.in_use()) continue;
        if (header.label_at && !header.label) qcow2::write_label(i.path, {std::time(nullptr)});
        seal_layer(i.path, how);
    }
}

}  // namespace

void rollback(const Subject& subject, const RollbackPlan& plan, const RollbackOptions& o) {
    const std::string chain_file = subject.device->chain.path, parameters = dm::parameters(subject.name);
    if (!has_name(subject.device->chain))
        throw failed("{}: the chain file is gone: 'dmchain deactivate {}' rebuilds it first", escaped(chain_file),
                     escaped(subject.name));
    qcow2::ChainOptions below = o.chain;
    const std::vector<std::string> own = subject.allow();
    below.allow.insert(below.allow.end(), own.begin(), own.end());
    const NewLayer made = make_layer_on(plan.layer, plan.snapshot, qcow2::Chain(plan.snapshot, below));
    const SealingTurn sealing(subject.name);
    const auto give_up = [&] {
        if (!fs::is_block_file(plan.layer)) ::unlink(plan.layer.c_str());
    };
    try {
        dm::remove_unused(subject.name);
    } catch (...) {
        give_up();
        throw;
    }
    bool built = false;
    try {
        qcow2::ChainOptions top = below;
        top.in_use = true;
        top.beneath.push_back(plan.snapshot);
        build_chain_file(qcow2::Chain(plan.layer, top), chain_file, true, true);
        built = true;
        dm::create(subject.name, open_for_device(chain_file).sectors(), parameters, false);
    } catch (const Error& e) {
        if (built)
            throw Error(e.code(), fmt::format("{}: the chain is taken back, but the device did not start: 'dmchain activate {}'",
                                              e.what(), escaped(chain_file)));
        give_up();
        dm::create(subject.name, open_for_device(chain_file).sectors(), parameters, false);
        throw;
    }
    try {
        leave(plan, o);
    } catch (const Error& e) {
        throw Error(e.code(),
                    fmt::format("{}: the device is taken back; finish the branch left behind with 'dmchain seal'", e.what()));
    }
}

}  // namespace dmchain::device
