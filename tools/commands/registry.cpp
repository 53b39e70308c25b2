// SPDX-License-Identifier: GPL-2.0-or-later
// See registry.hpp. A new command is declared there and added to the list here.
#include "commands/registry.hpp"

namespace dmchain::commands {

void add_commands(CLI::App& app, Exit& status) {
    // In the groups, and the order, in which --help lists them; those of the group "" it does not.
    static constexpr struct {
        const char* group;
        Add add;
    } all[] = {
        {"Look at chains and devices", add_inspect},
        {"Look at chains and devices", add_snapshots},
        {"Look at chains and devices", add_check},
        {"Look at chains and devices", add_survey},
        {"Look at chains and devices", add_diff},
        {"Look at chains and devices", add_ls},
        {"Look at chains and devices", add_status},
        {"Make and remove devices", add_create},
        {"Make and remove devices", add_index},
        {"Make and remove devices", add_table},
        {"Make and remove devices", add_clone},
        {"Make and remove devices", add_activate},
        {"Make and remove devices", add_deactivate},
        {"Make and remove devices", add_remove},
        {"Make and remove devices", add_rollback},
        {"While a device is in use", add_snapshot},
        {"While a device is in use", add_compact},
        {"While a device is in use", add_move},
        {"While a device is in use", add_resize},
        {"While a device is in use", add_release},
        {"While a device is in use", add_hold},
        {"Copy disks", add_export},
        {"Copy disks", add_import},
        {"Copy disks", add_serve},
        {"Memory of guests", add_guest_map},
        {"Memory of guests", add_replicate},
        {"Memory of guests", add_restore},
        {"Memory of guests", add_scrub},
        {"Memory of guests", add_repair},
        {"Repair and finish", add_seal},
        {"Repair and finish", add_recover},
        {"Repair and finish", add_gc},
        {"Repair and finish", add_doctor},
        {"", add_help},
    };
    for (const auto& c : all) c.add(app, status)->group(c.group);
}

}  // namespace dmchain::commands
