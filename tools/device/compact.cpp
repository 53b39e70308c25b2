// SPDX-License-Identifier: GPL-2.0-or-later
// See compact.hpp: carrying out a plan.
#include "device/compact.hpp"

#include "device/merge.hpp"
#include "device/merge_note.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace {

// The note of the first merge, which knows of those that follow it.
MergeNote note_of(const CompactPlan& plan) {
    std::vector<MergeNote::Next> all;
    for (const CompactPlan::Merge& m : plan.merges) {
        all.push_back({{}, m.way});
        for (std::size_t i = m.range.first; i <= m.range.last; i++) all.back().old.push_back(known_file(plan.images[i].path));
    }
    MergeNote n;
    n.old = std::move(all.front().old);
    n.way = all.front().way;
    n.then.assign(all.begin() + 1, all.end());
    n.path = n.old.back().path;
    n.rest = plan.rest;
    n.registry = plan.registry;
    return n;
}

// Goes on until all are done, or it is told to stop: then false. @merges: as planned, if they are.
bool run_all(const Subject& subject, ChainTurn& turn, MergeNote n, std::vector<CompactPlan::Merge>& merges,
             const CompactOptions& options) {
    for (std::size_t i = 0;; i++) {
        if (!run_merge(subject, turn, n, i < merges.size() ? &merges[i] : nullptr, options)) return false;
        if (n.then.empty()) break;
        MergeNote next;
        next.old = n.then.front().old;
        next.way = n.then.front().way;
        next.then.assign(n.then.begin() + 1, n.then.end());
        next.path = next.old.back().path;
        next.rest = n.rest;
        next.registry = n.registry;
        // The next note is there before this one goes: a cut between them leaves both.
        write_note(next);
        remove_note(n);
        n = std::move(next);
    }
    remove_note(n);
    return true;
}

// Guests may wait for the room that ran out: what was copied is given up, if it can be.
[[noreturn]] void give_up(const Subject& subject, const qcow2::ChainOptions& chain, const NoRoom& why) {
    bool gone = false;
    try {
        gone = abort_compact(subject.device ? device::subject(subject.name) : subject, chain);
    } catch (const Error&) {  // then the same command goes on
    }
    throw NoRoom(fmt::format("{}{}", why.what(), gone ? " (what was copied is gone)" : ""));
}

}  // namespace

bool compact(const Subject& subject, ChainTurn& turn, CompactPlan& plan, const CompactOptions& options) {
    if (plan.merges.empty()) return true;
    const MergeNote n = note_of(plan);
    try {
        write_note(n);
        return run_all(subject, turn, n, plan.merges, options);
    } catch (const NoRoom& e) {
        give_up(subject, plan.rest.options(), e);
    }
}

Resumed resume_compact(const Subject& subject, ChainTurn& turn, const qcow2::ChainOptions& chain, const CompactOptions& options) {
    std::vector<MergeNote> notes = find_notes(subject, chain);
    if (notes.empty()) return Resumed::nothing;
    // Of two notes the first one is done but for its removal, and what followed it is the other one's business.
    for (std::size_t i = 0; i + 1 < notes.size(); i++) notes[i].then.clear();
    std::vector<CompactPlan::Merge> unplanned;
    try {
        for (MergeNote& n : notes)
            if (!run_all(subject, turn, n, unplanned, options)) return Resumed::stopped;
    } catch (const NoRoom& e) {
        give_up(subject, chain, e);
    }
    return Resumed::done;
}

bool abort_compact(const Subject& subject, const qcow2::ChainOptions& chain) {
    const std::vector<MergeNote> notes = find_notes(subject, chain);
    for (const MergeNote& n : notes) {
        if (n.way == Way::in_place && n.adding)
            throw failed(
                "{}: layers were added to {} already, and the snapshots between are gone: run 'dmchain compact {}' to go on",
                escaped(subject.name), in_quotes(n.old.front().path), escaped(subject.name));
        if (is_landed(subject, n))
            throw failed("{}: the merged file {} is one of its layers already: run 'dmchain compact {}' to go on",
                         escaped(subject.name), in_quotes(n.path), escaped(subject.name));
    }
    for (const MergeNote& n : notes) {
        undo_exchange(subject, n);
        remove_file(n.merging());
        remove_file(n.merging_chain());
        remove_note(n);
    }
    return !notes.empty();
}

}  // namespace dmchain::device
