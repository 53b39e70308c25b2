// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain resize: a device that can be written grows, while it is used.
#include <memory>

#include "commands/options.hpp"
#include "commands/registry.hpp"
#include "device/live.hpp"
#include "dm-chain-log.h"
#include "io/text.hpp"

namespace dmchain::commands {

CLI::App* add_resize(CLI::App& app, Exit&) {
    struct Options {
        std::string name;
        std::uint64_t bytes = 0;
        bool dry_run = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("resize", "Make the device NAME larger");
    c->add_option("NAME", o->name, "Name of the device")->required();
    take_size(*c->add_option("SIZE", o->bytes, "New size, e.g. 100G; a multiple of 512")->required());
    c->add_flag("--dry-run", o->dry_run, "Say what would be done");
    c->callback([o] {
        const device::Live device = device::look_at_writable(o->name);
        const std::uint64_t bytes = device.status.sectors * 512;
        if (o->bytes % 512 != 0) throw Error(Exit::usage, fmt::format("resize: {} bytes: expected a multiple of 512", o->bytes));
        if (o->bytes < bytes) throw failed("{}: has {} bytes and cannot be made smaller", escaped(o->name), bytes);
        // What a write to the last unit covers ends with the disk.
        const std::uint64_t unit = std::uint64_t{1} << chain_unit_shift(device.cluster_bits(), device.subblock_bits());
        if (bytes % unit != 0)
            throw failed(
                "{}: has {} bytes, no multiple of {}: it cannot grow in use: 'dmchain remove' it, run 'qemu-img resize' on the "
                "image on top, and 'dmchain create' it again",
                escaped(o->name), bytes, unit);
        if (o->dry_run) {
            fmt::print("would make /dev/mapper/{} of {} bytes {} bytes long\n", escaped(o->name), bytes, o->bytes);
            return;
        }
        dm::message(o->name, fmt::format("resize {}", o->bytes / 512));
        dm::reload(o->name, o->bytes / 512);
        fmt::print("/dev/mapper/{}: {}\n", escaped(o->name), human_size(o->bytes));
    });
    return c;
}

}  // namespace dmchain::commands
