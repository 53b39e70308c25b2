// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain export: a disk as one file, or what is different since a snapshot as a stream.
#include "chain/export.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "chain/point_id.hpp"
#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/point.hpp"
#include "io/lasting.hpp"
#include "io/progress.hpp"
#include "io/scheduling.hpp"
#include "io/text.hpp"

namespace dmchain::commands {

namespace {

enum class Format { raw, qcow2, layers };

struct Options {
    std::string what;
    std::string target;
    std::optional<Format> format;
    std::optional<std::string> since;
    qcow2::ChainOptions chain;
    bool compress = false;
    bool overwrite = false;
    bool json = false;
};

void require_usage(const Options& o) {
    const bool out = o.target == "-";
    if (o.since && o.format) throw Error(Exit::usage, "export: --since makes a stream: --format does not go with it");
    if (out && o.format == Format::qcow2)
        throw Error(Exit::usage, "export: a qcow2 file cannot go to standard output: name a file");
    if (out && o.format == Format::layers) throw Error(Exit::usage, "export: layers cannot go to standard output: name a folder");
    if (o.compress && o.format != Format::qcow2) throw Error(Exit::usage, "export: --compress goes with --format qcow2 alone");
    if (o.overwrite && o.format == Format::layers)
        throw Error(Exit::usage, "export: layers go to a new folder: --overwrite does not go with them");
    if (out && o.json) throw Error(Exit::usage, "export: standard output is for the disk: --json does not go with it");
    if (out && ::isatty(STDOUT_FILENO)) throw Error(Exit::usage, "export: standard output is a terminal: name a file");
}

// The target must not take the place of what the disk is made of, here or below another device.
void require_not_a_layer(const std::string& target, const qcow2::Chain& chain) {
    struct stat st {};
    if (::stat(target.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) return;
    const Identity who = identity_of(target);
    for (const auto& l : chain.layers())
        if (l->file().identity().same_file(who) || (l->data_file() && l->data_file()->identity().same_file(who)))
            throw failed("{}: is a layer of the chain: name another file", escaped(target));
    if (const auto use = device::user_of(who))
        throw failed("{}: the device {} has it: name another file", escaped(target), escaped(use->device.name));
}

// The state of now of a device that is written to: from the device, as a place in the active layer may get other data while its
// file is being read.
chain::Readers readers(const device::Subject& subject, const qcow2::Chain& chain, std::size_t point) {
    if (!subject.device || !device::is_active(*chain.layers()[point])) return chain::readers_of(chain, point);
    const auto file = std::make_shared<File>("/dev/mapper/" + subject.device->name);
    return [file]() -> chain::ReadDisk {
        return [file](void* buffer, std::size_t bytes, std::uint64_t offset) { file->read_padded(buffer, bytes, offset); };
    };
}

std::optional<qcow2::LayerId> id_at(const qcow2::Chain& chain, std::size_t point) {
    const qcow2::Layer& layer = *chain.layers()[point];
    if (device::is_active(layer)) return std::nullopt;
    return chain::point_id(layer);
}

void run(const Options& o) {
    require_usage(o);
    const bool out = o.target == "-";
    const device::At at = device::split_at(o.what);
    if (!out && o.format != Format::layers) chain::require_free(o.target, o.overwrite);
    const device::Subject subject = device::subject(at.what);
    if (subject.device) be_gentle();
    if (!at.snapshot) subject.sync();
    qcow2::Chain chain = subject.open(held(o.chain));
    chain::Points points{{}, device::find_point(chain, at.snapshot)};
    if (o.since && *o.since != "none") points.from = device::find_snapshot(chain, *o.since);
    if (!out) require_not_a_layer(o.target, chain);
    if (o.format == Format::layers && device::is_active(*chain.layers()[points.to]))
        throw failed("{}: is being written to: name a snapshot, as {}@SNAPSHOT", escaped(at.what), escaped(at.what));
    const std::uint64_t bytes = chain::bytes_to(chain, points);
    std::uint64_t data = 0;
    if (o.format == Format::layers) {
        chain.end_at(points.to);
        data = chain::layer_bytes(chain);
    } else {
        data = chain::data_bytes(chain, points);
    }
    {
        Progress progress("exporting", data, Progress::Counts::bytes);
        chain::ExportHow how;
        how.readers = readers(subject, chain, points.to);
        how.replace = o.overwrite;
        how.progress = [&](std::uint64_t n) { progress.add(n); };
        if (o.since) {
            chain::StreamInfo info;
            if (points.from) info.base = id_at(chain, *points.from);
            info.to = id_at(chain, points.to);
            if (out)
                chain::export_stream(chain, points, info, STDOUT_FILENO, how);
            else
                chain::export_stream(chain, points, info, o.target, how);
        } else if (o.format == Format::qcow2) {
            chain.end_at(points.to);
            chain::export_qcow2(chain, o.target, o.compress, how);
        } else if (o.format == Format::layers) {
            chain::export_layers(chain, o.target, how);
        } else if (out) {
            chain::export_raw(chain, points.to, STDOUT_FILENO, how);
        } else {
            chain::export_raw(chain, points.to, o.target, how);
        }
    }
    if (out) return;
    const char* const format = o.since                      ? "stream"
                               : o.format == Format::qcow2  ? "qcow2"
                               : o.format == Format::layers ? "layers"
                                                            : "raw";
    if (o.json)
        print_json(
            nlohmann::json{{"target", absolute_name(o.target)}, {"format", format}, {"bytes", bytes}, {"data_bytes", data}});
    else
        fmt::print("{}: {}, disk of {}, {} of data\n", escaped(o.target), format, human_size(bytes), human_size(data));
}

}  // namespace

CLI::App* add_export(CLI::App& app, Exit&) {
    static const std::map<std::string, Format> formats = {
        {"raw", Format::raw}, {"qcow2", Format::qcow2}, {"layers", Format::layers}};
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("export", "Write a disk, or what is different since a snapshot, to a file");
    c->add_option("NAME", o->what,
                  "Name of the device, or the image on top of a chain; NAME@SNAPSHOT: as it was then, instead of now")
        ->required();
    c->add_option("TARGET", o->target, "The file or folder to make, or - for standard output")->required();
    c->add_option_function<Format>(
         "--format", [o](const Format& f) { o->format = f; },
         "One raw or qcow2 file, or all layers in a new folder (default: raw)")
        ->transform(CLI::CheckedTransformer(formats).description(""))
        ->type_name("raw|qcow2|layers");
    c->add_flag("--compress", o->compress, "Compress the clusters of the qcow2 file with zstd");
    c->add_option_function<std::string>(
         "--since", [o](const std::string& s) { o->since = s; },
         "A stream for 'dmchain import' of what is different since then; none: of the whole disk")
        ->type_name("SNAPSHOT|none");
    c->add_flag("--overwrite", o->overwrite, "Replace TARGET, if it is there, when the new file is complete");
    add_allow_options(*c, o->chain.allow, o->chain.assume_raw, "the chain's");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
