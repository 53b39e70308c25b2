// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain guest-map: what the pages of a guest's memory are for. Reads only.
#include <fmt/format.h>

#include <memory>

#include "commands/class_plot.hpp"
#include "commands/guest_memory.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "commands/write_file.hpp"
#include "guest/classify.hpp"
#include "io/gnuplot.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

struct Options {
    MemoryOptions memory;
    std::string plot;
    bool json = false;
};

struct Map {
    guest::PageMap map;
    std::array<guest::ClassCount, guest::classes> counts;
};

void print(const guest::Image& image, const Map& m) {
    fmt::print("{}: {}{}, in the form {}\n", escaped(image.source.name()), human_size(image.bytes()),
               image.machine.empty() ? "" : " of a machine " + escaped(image.machine), name_of(image.form));
    if (m.map.release.empty())
        fmt::print("The guest is not understood, so all of its memory counts as critical: {}.\n", escaped(m.map.reason));
    else
        fmt::print("Linux {}\n", escaped(m.map.release));
    fmt::print("\n{:<12} {:>10} {:>10} {:>10}\n", "class", "pages", "size", "zero");
    guest::ClassCount sum;
    for (std::size_t i = 0; i < guest::classes; i++) {
        const guest::ClassCount& c = m.counts[i];
        sum.pages += c.pages;
        sum.zero_pages += c.zero_pages;
        if (c.pages)
            fmt::print("{:<12} {:>10} {:>10} {:>10}\n", name_of(static_cast<guest::Class>(i)), c.pages,
                       human_size(c.pages * guest::page_bytes), human_size(c.zero_pages * guest::page_bytes));
    }
    fmt::print("{:<12} {:>10} {:>10} {:>10}\n", "all", sum.pages, human_size(sum.pages * guest::page_bytes),
               human_size(sum.zero_pages * guest::page_bytes));
}

void print_json_of(const guest::Image& image, const Map& m) {
    nlohmann::ordered_json j = {{"file", image.source.name()}, {"form", name_of(image.form)}, {"bytes", image.bytes()}};
    if (!image.machine.empty()) j["machine"] = image.machine;
    if (m.map.release.empty())
        j["reason"] = m.map.reason;
    else
        j["kernel"] = m.map.release;
    j["classes"] = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < guest::classes; i++) {
        const guest::ClassCount& c = m.counts[i];
        const auto kind = static_cast<guest::Class>(i);
        j["classes"].push_back({{"class", name_of(kind)},
                                {"critical", is_critical(kind)},
                                {"pages", c.pages},
                                {"bytes", c.pages * guest::page_bytes},
                                {"zero_bytes", c.zero_pages * guest::page_bytes}});
    }
    j["blocks"] = nlohmann::ordered_json::array();
    for (const guest::RamBlock& b : image.blocks) j["blocks"].push_back({{"name", b.name}, {"bytes", b.bytes}});
    print_json(j);
}

void run(const Options& o) {
    if (!o.plot.empty()) require_plot(o.plot);
    const GuestMemory memory(o.memory);
    Map m{memory.map(), {}};
    m.counts = guest::count(memory.image(), m.map);
    if (!o.plot.empty()) write_file(o.plot, plot_svg(class_plot(memory.image(), memory.map()), 1200, 600));
    if (o.json)
        print_json_of(memory.image(), m);
    else
        print(memory.image(), m);
}

}  // namespace

CLI::App* add_guest_map(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("guest-map", "Show what the memory of a stopped guest is used for");
    c->add_option("FILE", o->memory.file,
                  "The guest's memory: a migration stream, a file of 'virsh save', a qcow2 image with a state of savevm, an ELF "
                  "core; - for standard input")
        ->required()
        ->type_name("FILE[@SNAPSHOT]");
    add_firecracker_options(*c, o->memory);
    c->add_option("--plot", o->plot, "Draw what each part of memory is used for, as SVG (needs gnuplot)")->type_name("FILE");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
