// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain replicate: stores the memory of a stopped guest, and the layers of its disk, in folders on several disks.
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
#include "replica/disk_layers.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    MemoryOptions memory;
    std::string layers;  // of this disk are stored
    std::string disk;    // is only looked at
    std::string store;
    std::string policy;
    std::string name;
    qcow2::ChainOptions chain;
    bool dry_run = false;
    bool json = false;
};

std::string copies(std::uint64_t n) { return counted(n, "copy", "copies"); }

// The disk as it was at a snapshot.
struct Snapshot {
    qcow2::Chain chain;
    std::size_t point;
    replica::Disk disk;
};

Snapshot open_disk(const Options& o) {
    const device::At at = device::split_at(o.layers.empty() ? o.disk : o.layers);
    const device::Subject subject = device::subject(at.what);
    qcow2::Chain chain = subject.open(held(o.chain));
    const std::size_t point = device::find_point(chain, at.snapshot);
    const qcow2::Layer& layer = *chain.layers()[point];
    if (device::is_active(layer))
        throw failed("{}: is being written to: name a snapshot, as {}@SNAPSHOT", escaped(at.what), escaped(at.what));
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

// What is done with the layers of a disk.
struct LayerSums {
    std::uint64_t layers = 0, stored_before = 0, data_bytes = 0, free_bytes = 0;
};
LayerSums sums_of(const std::vector<replica::LayerPlan>& layers) {
    LayerSums s;
    for (const auto& l : layers) {
        s.layers++;
        s.stored_before += l.stored;
        s.data_bytes += l.data_bytes;
        s.free_bytes += l.free_bytes;
    }
    return s;
}

void print_layers(const LayerSums& s, unsigned n, bool dry_run) {
    fmt::print("{}: {} stored already; {} of the others {} in {}", counted(s.layers, "layer"), s.stored_before,
               human_size(s.data_bytes), dry_run ? "would be stored" : "stored", copies(n));
    if (s.free_bytes) fmt::print(", and {} left out that the guest's file system does not use", human_size(s.free_bytes));
    fmt::print("\n");
}

void print_memory(const GuestMemory& memory, const replica::Plan& plan, const replica::Policy& policy, bool stored) {
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
}

void add_memory(nlohmann::ordered_json& j, const GuestMemory& memory, const replica::Plan& plan, const replica::Policy& policy) {
    const Baselines b = baselines(plan, policy);
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
}

nlohmann::ordered_json json_of(const std::vector<replica::LayerPlan>& layers) {
    auto out = nlohmann::ordered_json::array();
    for (const auto& l : layers)
        out.push_back(
            {{"number", l.number}, {"stored_before", l.stored}, {"data_bytes", l.data_bytes}, {"free_bytes", l.free_bytes}});
    return out;
}

void run(Options& o) {
    if (o.layers.empty() && o.memory.file.empty())
        throw Error(Exit::usage, "replicate: name the disk to store, as NAME@SNAPSHOT, or the memory with --memory, or both");
    if (o.name.empty()) o.name = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    if (!replica::is_name(o.name))
        throw Error(Exit::usage,
                    fmt::format("replicate: {} is no name for a snapshot: letters, digits, '.', '-', '_', ':', at most 100",
                                in_quotes(o.name)));
    const replica::Policy policy = o.policy.empty() ? replica::Policy() : replica::Policy(o.policy);
    replica::Store places = replica::open_store(o.store);
    if (policy.highest() > places.most_copies())
        throw failed(
            "the policy keeps {}, each in a folder of its own, or in a pool of that size, and {} given keeps {}: name more with "
            "--to, "
            "or other numbers with --policy",
            copies(policy.highest()), places.size() == 1 ? "the one" : fmt::format("the {}", places.size()),
            places.most_copies());
    for (const auto& f : places)
        if (f.has_manifest(o.name)) throw failed("{}: has a snapshot {}: name another", escaped(f.name()), in_quotes(o.name));
    std::optional<Snapshot> disk;
    if (!o.disk.empty() || !o.layers.empty()) disk = open_disk(o);
    std::optional<GuestMemory> memory;
    if (!o.memory.file.empty()) memory.emplace(o.memory);
    if (memory && memory->image().form == guest::Form::core)
        throw failed(
            "{}: is an ELF core, which lacks what the devices hold, so that no machine can go on from it: take a migration "
            "stream or 'virsh save'",
            escaped(memory->image().source.name()));

    const unsigned layer_copies = policy.critical();
    std::vector<replica::LayerPlan> layers;
    if (!o.layers.empty()) {
        Progress progress("looking at layers", disk->point + 1);
        layers = replica::plan_layers(disk->chain, disk->point, places, layer_copies, [&](std::uint64_t n) { progress.add(n); });
    }
    std::optional<replica::Plan> plan;
    if (memory) {
        std::optional<std::vector<replica::Backed>> backed;
        if (disk) backed = find_backed(*memory, policy, *disk);
        // A page cannot be taken from a block that is not stored.
        if (backed && !layers.empty())
            std::erase_if(*backed, [gone = replica::left_out(layers)](const replica::Backed& p) {
                return gone[p.disk / guest::page_bytes];
            });
        plan = replica::make_plan(memory->image(), memory->map(), policy, std::move(backed));
    }

    const LayerSums sums = sums_of(layers);
    auto j = nlohmann::ordered_json{{"name", o.name}, {"dry_run", o.dry_run}};
    if (plan) add_memory(j, *memory, *plan, policy);
    if (!layers.empty()) j["layers"] = json_of(layers);
    std::optional<replica::Stored> stored;
    if (!o.dry_run) {
        for (auto& f : places) f.begin_writing();
        Progress progress("storing", (plan ? plan->stored_bytes() : 0) + sums.data_bytes * layer_copies, Progress::Counts::bytes);
        const std::function<void(std::uint64_t)> more = [&](std::uint64_t n) { progress.add(n); };
        replica::PieceWriter pieces(places, policy.compress, more);
        replica::Manifest manifest = replica::new_manifest(o.name, places);
        if (disk) manifest.disk = disk->disk;
        for (const auto& l : layers) manifest.layers.push_back(l.manifest.name);
        const std::vector<replica::Manifest> new_layers =
            layers.empty() ? std::vector<replica::Manifest>() : replica::store_layers(disk->chain, layers, layer_copies, pieces);
        if (plan) replica::store_memory(memory->image(), memory->map(), *plan, policy, pieces, manifest);
        stored = pieces.finish(manifest, new_layers);
        j["written_bytes"] = stored->written_bytes;
        j["reused_bytes"] = stored->reused_bytes;
    }
    if (o.json) return print_json(j);
    if (plan) print_memory(*memory, *plan, policy, stored.has_value());
    if (!layers.empty()) print_layers(sums, layer_copies, o.dry_run);
    if (stored)
        fmt::print("{}: {} written, {} were there already\n", escaped(o.name), human_size(stored->written_bytes),
                   human_size(stored->reused_bytes));
}

}  // namespace

CLI::App* add_replicate(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("replicate", "Store the memory of a guest, and its disk, in folders on several disks");
    CLI::Option* const layers =
        c->add_option("NAME@SNAPSHOT", o->layers,
                      "The disk whose layers are stored: a snapshot of a device, or of the image on top of a chain");
    c->add_option("--memory", o->memory.file,
                  "The guest's memory: a migration stream, a file of 'virsh save', a qcow2 image with a state of savevm; - for "
                  "standard input")
        ->type_name("FILE[@SNAPSHOT]");
    c->add_option("--to", o->store,
                  "Folders on as many disks, as dir:DIR[,DIR...], or pools of Ceph, as rados:POOL[,POOL...], that get the copies")
        ->required()
        ->type_name("STORE");
    c->add_option(
         "--disk", o->disk,
         "The guest's disk when its memory was taken, if it is not to be stored: what is on it is not stored with the memory")
        ->type_name("NAME[@SNAPSHOT]")
        ->excludes(layers);
    add_firecracker_options(*c, o->memory);
    CLI::Option* const state =
        c->add_option("--state", o->memory.state, "The file with the state of the microVM's devices, which is stored, too");
    state->type_name("FILE")->needs("--firecracker");
    c->get_option("--firecracker")->needs(state)->needs(c->get_option("--memory"));
    c->add_option("--name", o->name, "Of the snapshot (default: the time)");
    c->add_option("--policy", o->policy, "How many copies of what: see dmchain-replicate(8)")->type_name("FILE");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the disk's");
    c->add_flag("--dry-run", o->dry_run, "Only say what would be stored");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
