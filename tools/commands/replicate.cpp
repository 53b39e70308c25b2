// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain replicate: stores the memory of a stopped guest in folders on several disks.
#include "replica/replicate.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <memory>
#include <optional>

#include "chain/export.hpp"
#include "chain/point_id.hpp"
#include "commands/guest_memory.hpp"
#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/point.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    MemoryOptions memory;
    std::string disk;
    std::string store;
    std::string policy;
    std::string name;
    qcow2::ChainOptions chain;
    bool dry_run = false;
    bool json = false;
};

std::string copies(std::uint64_t n) { return counted(n, "copy", "copies"); }

// The disk as it was at the snapshot that --disk names.
struct Snapshot {
    qcow2::Chain chain;
    std::size_t point;
    replica::Disk disk;
};

Snapshot open_disk(const Options& o) {
    const device::At at = device::split_at(o.disk);
    const device::Subject subject = device::subject(at.what);
    qcow2::Chain chain = subject.open(held(o.chain));
    const std::size_t point = device::find_point(chain, at.snapshot);
    const qcow2::Layer& layer = *chain.layers()[point];
    if (device::is_active(layer))
        throw failed("{}: is being written to: name a snapshot, as --disk {}@SNAPSHOT", escaped(at.what), escaped(at.what));
    replica::Disk disk{layer.file().name(), chain::text_of(chain::point_id(layer))};
    return {std::move(chain), point, std::move(disk)};
}

std::vector<replica::Backed> find_backed(const GuestMemory& memory, const replica::Policy& policy, const Snapshot& snapshot) {
    std::vector<replica::Backed> pages;
    for (std::uint32_t b = 0; b < memory.map().blocks.size(); b++) {
        const auto& classes = memory.map().blocks[b];
        const auto& where = memory.image().blocks[b].where;
        for (std::uint64_t p = 0; p < classes.size(); p++) {
            const bool content = guest::RamBlock::has_content(where[p]);
            const bool clean = classes[p] == guest::Class::file_clean || classes[p] == guest::Class::file_mapped;
            if (content && clean && policy.copies[static_cast<std::size_t>(classes[p])]) pages.push_back({b, p, 0});
        }
    }
    if (pages.empty()) return pages;
    Progress progress("reading the disk", chain::data_bytes(snapshot.chain, {std::nullopt, snapshot.point}));
    return replica::find_on_disk(memory.image(), std::move(pages), snapshot.chain, snapshot.point,
                                 [&](std::uint64_t n) { progress.add(n); });
}

// Of what storing everything in so many copies would take, with the zero pages or without them.
struct Baselines {
    std::uint64_t copies, all, without_zero;
};
Baselines baselines(const replica::Plan& plan, const replica::Policy& policy) {
    Baselines b{policy.copies[static_cast<std::size_t>(guest::Class::anonymous)], 0, 0};
    for (const auto& s : plan.classes) {
        b.all += s.bytes * b.copies;
        b.without_zero += (s.bytes - s.zero_bytes) * b.copies;
    }
    b.all += plan.other_stored_bytes;
    b.without_zero += plan.other_stored_bytes;
    return b;
}
double saved(std::uint64_t stored, std::uint64_t of) {
    return of ? 100 - 100 * static_cast<double>(stored) / static_cast<double>(of) : 0;
}

void print(const Options& o, const GuestMemory& memory, const replica::Plan& plan, const replica::Policy& policy,
           const std::optional<replica::Stored>& stored) {
    if (memory.map().release.empty())
        fmt::print("The guest is not understood, so all of its memory counts as critical: {}.\n", escaped(memory.map().reason));
    fmt::print("{:<12} {:>7} {:>10} {:>10} {:>10} {:>10}\n", "class", "copies", "size", "zero", "on disk", "stored");
    for (std::size_t i = 0; i < guest::classes; i++) {
        const auto& s = plan.classes[i];
        if (!s.bytes) continue;
        fmt::print("{:<12} {:>7} {:>10} {:>10} {:>10} {:>10}\n", name_of(static_cast<guest::Class>(i)), policy.copies[i],
                   human_size(s.bytes), human_size(s.zero_bytes), human_size(s.disk_bytes), human_size(s.stored_bytes));
    }
    const Baselines b = baselines(plan, policy);
    fmt::print("\n{} {} in all: {:.1f} % less than {} of all memory ({}), {:.1f} % less than that without zero pages ({})\n",
               stored ? "Stored" : "Would store", human_size(plan.stored_bytes()), saved(plan.stored_bytes(), b.all),
               copies(b.copies), human_size(b.all), saved(plan.stored_bytes(), b.without_zero), human_size(b.without_zero));
    if (stored)
        fmt::print("{}: {} written, {} were there already\n", escaped(o.name), human_size(stored->written_bytes),
                   human_size(stored->reused_bytes));
}

void print_json_of(const Options& o, const GuestMemory& memory, const replica::Plan& plan, const replica::Policy& policy,
                   const std::optional<replica::Stored>& stored) {
    const Baselines b = baselines(plan, policy);
    nlohmann::ordered_json j = {{"name", o.name}, {"dry_run", o.dry_run}};
    if (memory.map().release.empty())
        j["reason"] = memory.map().reason;
    else
        j["kernel"] = memory.map().release;
    j["classes"] = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < guest::classes; i++) {
        const auto& s = plan.classes[i];
        j["classes"].push_back({{"class", name_of(static_cast<guest::Class>(i))},
                                {"copies", policy.copies[i]},
                                {"bytes", s.bytes},
                                {"zero_bytes", s.zero_bytes},
                                {"disk_bytes", s.disk_bytes},
                                {"stored_bytes", s.stored_bytes}});
    }
    j["stored_bytes"] = plan.stored_bytes();
    j["all_copied_bytes"] = b.all;
    j["nonzero_copied_bytes"] = b.without_zero;
    if (stored) {
        j["written_bytes"] = stored->written_bytes;
        j["reused_bytes"] = stored->reused_bytes;
    }
    print_json(j);
}

void run(Options& o) {
    if (o.name.empty()) o.name = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    if (!replica::is_name(o.name))
        throw Error(Exit::usage,
                    fmt::format("replicate: {} is no name for a snapshot: letters, digits, '.', '-', '_', ':', at most 100",
                                in_quotes(o.name)));
    const replica::Policy policy = o.policy.empty() ? replica::Policy() : replica::Policy(o.policy);
    std::vector<replica::Folder> folders = replica::open_folders(o.store);
    if (policy.highest() > folders.size())
        throw failed(
            "the policy keeps {}, each in a folder of its own, and {} given: name more with --to, or other numbers with "
            "--policy",
            copies(policy.highest()), counted(folders.size(), "folder is", "folders are"));
    for (const auto& f : folders)
        if (f.has_manifest(o.name)) throw failed("{}: has a snapshot {}: name another", escaped(f.path()), in_quotes(o.name));
    std::optional<Snapshot> disk;
    if (!o.disk.empty()) disk = open_disk(o);
    const GuestMemory memory(o.memory);
    if (memory.image().form == guest::Form::core)
        throw failed(
            "{}: is an ELF core, which lacks what the devices hold, so that no machine can go on from it: take a migration "
            "stream or "
            "'virsh save'",
            escaped(memory.image().source.name()));
    std::optional<std::vector<replica::Backed>> backed;
    if (disk) backed = find_backed(memory, policy, *disk);
    const replica::Plan plan = replica::make_plan(memory.image(), memory.map(), policy, std::move(backed));

    std::optional<replica::Stored> stored;
    if (!o.dry_run) {
        for (auto& f : folders) f.begin_writing();
        Progress progress("storing", plan.stored_bytes(), Progress::Counts::bytes);
        stored =
            replica::store(memory.image(), memory.map(), plan, policy, o.name, disk ? std::optional(disk->disk) : std::nullopt,
                           folders, [&](std::uint64_t n) { progress.add(n); });
    }
    if (o.json)
        print_json_of(o, memory, plan, policy, stored);
    else
        print(o, memory, plan, policy, stored);
}

}  // namespace

CLI::App* add_replicate(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("replicate", "Store the memory of a stopped guest in folders on several disks");
    c->add_option("--memory", o->memory.file,
                  "The guest's memory: a migration stream, a file of 'virsh save', a qcow2 image with a state of savevm; - for "
                  "standard input")
        ->required()
        ->type_name("FILE[@SNAPSHOT]");
    c->add_option("--to", o->store, "Folders, on as many disks, that get the copies")->required()->type_name("dir:DIR[,DIR...]");
    c->add_option(
         "--disk", o->disk,
         "The guest's disk when its memory was taken: a device or the image on top of a chain. What is on it is not stored")
        ->type_name("NAME[@SNAPSHOT]");
    add_firecracker_options(*c, o->memory);
    CLI::Option* const state =
        c->add_option("--state", o->memory.state, "The file with the state of the microVM's devices, which is stored, too");
    state->type_name("FILE")->needs("--firecracker");
    c->get_option("--firecracker")->needs(state);
    c->add_option("--name", o->name, "Of the snapshot (default: the time)");
    c->add_option("--policy", o->policy, "How many copies of what: see dmchain-replicate(8)")->type_name("FILE");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the disk's");
    c->add_flag("--dry-run", o->dry_run, "Only say what would be stored");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
