// SPDX-License-Identifier: GPL-2.0-or-later
// See stores.hpp.
#include "commands/stores.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "commands/print_json.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "replica/repair.hpp"

namespace dmchain::commands {

bool is_store(const std::string& what) { return replica::is_store_name(what); }

void gc_store(const StoreGarbage& o) {
    replica::Store places = replica::open_store(o.store);
    for (auto& f : places) {
        f.require_store();
        o.dry_run ? f.begin_reading() : f.begin_writing();
    }
    replica::Catalog catalog = replica::read_catalog(places);
    const auto forgotten = [&](const std::string& name) {
        return std::find(o.forget.begin(), o.forget.end(), name) != o.forget.end();
    };
    for (const std::string& name : o.forget)
        if (std::none_of(places.begin(), places.end(), [&](const auto& f) { return f.has_manifest(name); }))
            throw failed("{}: has no snapshot {}", in_quotes(o.store), in_quotes(name));
    std::erase_if(catalog.snapshots, [&](const auto& s) { return forgotten(s.name); });
    std::erase_if(catalog.lost, forgotten);
    replica::require_known(catalog);
    if (!o.dry_run)
        for (const std::string& name : o.forget)
            for (const auto& f : places) f.remove_manifest(name);
    const replica::Unused unused = replica::remove_unused(catalog, places, o.dry_run);
    if (o.json)
        return print_json(nlohmann::ordered_json{
            {"forgotten", o.forget}, {"removed_copies", unused.copies}, {"removed_bytes", unused.bytes}, {"dry_run", o.dry_run}});
    for (const std::string& name : o.forget)
        fmt::print("{} the snapshot {}\n", o.dry_run ? "would forget" : "forgot", escaped(name));
    if (unused.copies)
        fmt::print("{} {} of pieces that no snapshot has, {}\n", o.dry_run ? "would remove" : "removed",
                   counted(unused.copies, "copy", "copies"), human_size(unused.bytes));
    else
        fmt::print("nothing was left behind\n");
}

}  // namespace dmchain::commands
