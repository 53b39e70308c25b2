// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain snapshots: what a chain has, as a table.
#include <sys/stat.h>

#include <ctime>
#include <memory>
#include <optional>

#include "chain/points.hpp"
#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "commands/report.hpp"
#include "commands/stores.hpp"
#include "device/point.hpp"
#include "device/subject.hpp"
#include "io/progress.hpp"
#include "io/text.hpp"
#include "qcow2/space.hpp"
#include "replica/catalog.hpp"

namespace dmchain::commands {

namespace {

struct Row {
    std::size_t number;
    bool frozen;   // and not sealed
    bool topmost;  // nothing stands on it
    std::string path;
    std::optional<qcow2::Label> label;
    std::int64_t modified;    // seconds since 1970
    std::uint64_t bytes;      // of the disk
    std::uint64_t file_used;  // bytes on disk
    qcow2::Space space;
};

std::string utc(std::int64_t seconds) {
    const std::time_t t = seconds;
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

nlohmann::json or_none(const std::string& s) { return s.empty() ? nlohmann::json() : nlohmann::json(s); }

std::vector<Field<Row>> fields() {
    return {
        {"number", "of the layer, from the base, which is 0", false, [](const Row& r) { return r.number; }},
        {"name", "given by snapshot --name", false, [](const Row& r) { return or_none(r.label ? r.label->name : ""); }},
        {"time", "when it was taken (of images that do not say: when they were last written)", false,
         [](const Row& r) { return utc(r.label ? r.label->time : r.modified); }},
        {"state", "sealed; frozen: sealing is not done yet; pruned: a layer that is no snapshot any more", false,
         [](const Row& r) { return r.frozen                     ? "frozen"
                                   : r.label && r.label->pruned ? "pruned"
                                                                : "sealed"; }},
        {"written", "bytes of the disk that lie in its layer", true, [](const Row& r) { return r.space.written; }},
        {"unique", "of them, those that only this snapshot sees: what deleting it gives back", true,
         [](const Row& r) { return r.topmost ? nlohmann::json() : nlohmann::json(r.space.unique); }},
        {"shared", "referenced bytes that other snapshots, or the disk now, see, too", true,
         [](const Row& r) { return r.space.referenced - (r.topmost ? 0 : r.space.unique); }},
        {"referenced", "bytes of the disk that hold data at that time", true, [](const Row& r) { return r.space.referenced; }},
        {"bytes", "size of the disk at that time", true, [](const Row& r) { return r.bytes; }},
        {"file_bytes", "what the layer takes on disk", true, [](const Row& r) { return r.file_used; }},
        {"path", "of the layer", false, [](const Row& r) { return r.path; }},
        {"note", "given by snapshot --note", false, [](const Row& r) { return or_none(r.label ? r.label->note : ""); }},
    };
}

// Of a store of replicate.
struct Stored {
    replica::StoredSnapshot snapshot;
    replica::Health health;
};

std::vector<Field<Stored>> stored_fields() {
    return {
        {"name", "of the snapshot", false, [](const Stored& r) { return r.snapshot.name; }},
        {"time", "when it was stored", false, [](const Stored& r) { return utc(static_cast<std::int64_t>(r.snapshot.created)); }},
        {"state",
         "whole; short: some pieces have fewer copies than they should; lost: it cannot be restored. Copies are looked for, "
         "not read: that is scrub",
         false, [](const Stored& r) { return r.health.lost         ? "lost"
                                             : r.health.short_ones ? "short"
                                                                   : "whole"; }},
        {"kernel", "that the guest ran", false, [](const Stored& r) { return or_none(r.snapshot.kernel); }},
        {"bytes", "memory of the guest", true, [](const Stored& r) { return r.snapshot.memory_bytes; }},
        {"disk_bytes", "size of the disk, if its layers are stored", true, [](const Stored& r) { return r.snapshot.disk_bytes; }},
        {"layers", "of the disk, that are stored", true,
         [](const Stored& r) { return static_cast<std::uint64_t>(r.snapshot.layers.size()); }},
        {"stored", "what its copies take, those shared with others included", true,
         [](const Stored& r) { return r.health.stored_bytes; }},
        {"disk", "layer of the disk that it belongs to", false,
         [](const Stored& r) { return or_none(r.snapshot.disk ? r.snapshot.disk->snapshot : ""); }},
    };
}

std::vector<Stored> stored_rows(const std::string& store) {
    replica::Store places = replica::open_store(store);
    for (auto& f : places) f.begin_reading();
    replica::Catalog catalog = replica::read_catalog(places);
    for (const std::string& name : catalog.lost)
        fmt::print(stderr, "dmchain: warning: {}: its manifest, or that of a layer, is damaged in all of these folders\n",
                   in_quotes(name));
    replica::Pieces pieces = replica::wanted_copies(catalog);
    replica::find_copies(pieces, places);
    std::vector<Stored> out;
    for (auto& s : catalog.snapshots) {
        const replica::Health h = replica::health_of(catalog, s, pieces);
        out.push_back({std::move(s), h});
    }
    return out;
}

struct Options {
    std::string what;
    std::vector<std::string> allow;
    bool assume_raw = false;
};

std::vector<Row> rows(const Options& o) {
    const device::Subject subject = device::subject(o.what, true);
    qcow2::ChainOptions how;
    how.allow = o.allow;
    how.assume_raw = o.assume_raw;
    const qcow2::Chain chain = subject.open(how);
    std::vector<qcow2::Space> space;
    {
        Progress progress("reading tables", chain.virtual_size());
        space = qcow2::measure_space(chain, [&](std::uint64_t bytes) { progress.add(bytes); });
    }
    std::vector<Row> out;
    for (std::size_t i = 0; i < chain.layers().size(); i++) {
        const qcow2::Layer& layer = *chain.layers()[i];
        if (device::is_active(layer)) continue;
        struct stat st {};
        if (::fstat(layer.file().fd(), &st) != 0) continue;
        out.push_back({i, layer.image() && layer.image()->log(), i + 1 == chain.layers().size(), layer.file().path(),
                       chain::label_of(layer), st.st_mtim.tv_sec, layer.virtual_size(),
                       static_cast<std::uint64_t>(st.st_blocks) * 512, space[i]});
    }
    return out;
}

}  // namespace

CLI::App* add_snapshots(CLI::App& app, Exit&) {
    auto report = std::make_shared<Report<Row>>("snapshots", fields(), "number,name,time,written,unique,referenced,path");
    auto o = std::make_shared<Options>();
    const Report<Stored> stored("snapshots", stored_fields(), "name,time,state,kernel,bytes,layers,stored,disk");
    CLI::App* c = app.add_subcommand("snapshots", "List the snapshots of a device, a chain or a store, and what each takes");
    c->add_option(
         "NAME|TOP|STORE", o->what,
         "Name of a device, the image on top of a chain, or a store of replicate, as dir:DIR[,DIR...] or rados:POOL[,POOL...]")
        ->required();
    report->add_options(*c);
    add_allow_options(*c, o->allow, o->assume_raw, "TOP's");
    c->callback([o, report, stored] {
        if (is_store(o->what))
            stored.print(stored_rows(o->what), report->options());
        else
            report->print(rows(*o));
    });
    return c;
}

}  // namespace dmchain::commands
