// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain snapshot: freezes the active layer of a device and goes on in a new one; then seals the frozen one.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "commands/options.hpp"
#include "commands/print_json.hpp"
#include "commands/registry.hpp"
#include "device/background.hpp"
#include "device/layer.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "qcow2/active.hpp"
#include "qcow2/header_bytes.hpp"

namespace dmchain::commands {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string name;
    std::string layer;
    std::string freeze;
    std::string thaw;
    qcow2::Label label;
    device::SealHow how;
    bool prepare = false;
    bool no_seal = false;
    bool wait = false;
    bool json = false;
};

// Runs a hook by the shell, which finds the device in $DMCHAIN_DEVICE.
void hook(const char* option, const std::string& command, const std::string& name) {
    if (command.empty()) return;
    ::setenv("DMCHAIN_DEVICE", ("/dev/mapper/" + name).c_str(), 1);
    std::fflush(nullptr);
    const int status = std::system(command.c_str());
    if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        throw failed("{}: {} {} ended with status {}", escaped(name), option, in_quotes(command),
                     status == -1        ? -1
                     : WIFEXITED(status) ? WEXITSTATUS(status)
                                         : 128 + WTERMSIG(status));
}

// Between --freeze and --thaw, whatever happens.
class Frozen {
public:
    explicit Frozen(const Options& o) : o_(o) {
        try {
            hook("--freeze", o.freeze, o.name);
        } catch (...) {
            thaw_anyway();
            throw;
        }
    }
    ~Frozen() {
        if (!thawed_) thaw_anyway();
    }
    Frozen(const Frozen&) = delete;
    Frozen& operator=(const Frozen&) = delete;

    // Returns what went wrong: the snapshot is there all the same.
    std::optional<Error> thaw() {
        thawed_ = true;
        try {
            hook("--thaw", o_.thaw, o_.name);
        } catch (const Error& e) {
            return e;
        }
        return std::nullopt;
    }

private:
    void thaw_anyway() const {
        try {
            hook("--thaw", o_.thaw, o_.name);
        } catch (const Error& e) {
            fmt::print(stderr, "dmchain: {}\n", e.what());
        }
    }
    const Options& o_;
    bool thawed_ = false;
};

// @layer: the new one; @active: the one that was active before, with the id @id.
nlohmann::json facts(const Options& o, const std::string& layer, const std::string& active, std::uint16_t id) {
    nlohmann::json j = {{"device", "/dev/mapper/" + o.name}, {"dry_run", o.how.dry_run}};
    if (o.prepare) {
        j["next_layer"] = layer;
        return j;
    }
    if (!o.label.name.empty()) j["name"] = o.label.name;
    if (!o.label.note.empty()) j["note"] = o.label.note;
    j["active_layer"] = layer;
    j["frozen_layer"] = active;
    j["frozen_id"] = id;
    j["sealing"] = !o.no_seal;
    return j;
}

// Whether somebody resizes the device now, or has since @before: the new size is the target's first, then the table's.
bool is_resized(const dm::Status& before, const dm::Status& now) {
    return now.sectors != before.sectors || now.clusters_total != before.clusters_total ||
           now.clusters_total != (now.sectors + now.cluster_sectors - 1) / now.cluster_sectors;
}

// Takes the snapshot, onto the new @layer, which is there. False, if @again: the device has another size than when @live was
// looked at, and the layer does not fit it. @thaw_failed: what went wrong after the snapshot was there.
bool take(const Options& o, const device::Live& live, const std::string& layer, bool again, std::optional<Error>& thaw_failed) {
    const bool file = !fs::is_block_file(layer);
    try {
        Frozen frozen(o);
        dm::message(o.name, "snapshot " + dm::message_word(layer));
        thaw_failed = frozen.thaw();
        return true;
    } catch (...) {
        dm::Status now;
        try {
            now = dm::status(o.name);
        } catch (const Error&) {  // is less to the point than what went wrong first
        }
        // What the device did not take over is of no use.
        if (file && now.active == std::to_string(live.active()->id)) {
            ::unlink(layer.c_str());
            if (is_resized(live.status, now)) {
                if (again) return false;
                throw failed("{}: a resize was cut off: run 'dmchain resize {} SIZE' again first", escaped(o.name),
                             escaped(o.name));
            }
        }
        throw;
    }
}

// Before anything is done: whether the layer that is to be frozen can have the name.
void check_name(const Options& o, const device::Live& live, const std::string& active) {
    qcow2::check_label(o.label);
    if (o.label.name.empty() && o.label.note.empty()) return;
    if (!qcow2::read_header(File(active), true).label_at)
        throw failed("{}: was made by an older version, and has no room for a name: take one snapshot without a name first",
                     escaped(active));
    if (o.label.name.empty()) return;
    for (const dm::OpenLayer& l : live.layers) {
        if (l.state == "data" || !device::has_name(l)) continue;
        const File file(device::name_of(l, o.name));
        if (!qcow2::has_magic(file)) continue;
        const std::optional<qcow2::Label> label = qcow2::read_header(file, true, true).label;
        if (label && label->name == o.label.name)
            throw failed("{}: the snapshot {} is there already: {}", escaped(o.name), in_quotes(o.label.name),
                         escaped(file.path()));
    }
}

// Writes down when the snapshot was taken, and its name. Returns what went wrong: the snapshot is there all the same.
std::optional<Error> write_down(const qcow2::Label& label, const std::string& frozen) {
    try {
        if (!qcow2::read_header(File(frozen), true).label_at) return std::nullopt;  // of an older version: not named, see above
        qcow2::write_label(frozen, label);
    } catch (const Error& e) {
        return e;
    }
    return std::nullopt;
}

void run(Options o) {
    device::Live live = device::look_at_writable(o.name);
    // The new layer names it: it must have a name.
    const std::string active = device::name_of(*live.active(), o.name);
    if (!device::has_name(live.chain))
        fmt::print(stderr, "dmchain: {}: the chain file is gone: the device goes on, and 'dmchain remove' does without it\n",
                   escaped(live.chain.path));
    if (o.layer.empty() && live.active()->device)
        throw Error(Exit::usage, "snapshot: the active layer is a block device: name the next one with --layer");
    const std::string layer = o.layer.empty() ? qcow2::next_layer_name(active) : lasting_name(o.layer);
    const bool seals = !o.no_seal;
    check_name(o, live, active);
    if (o.how.dry_run) {
        device::check_layer_place(layer);
        if (o.json)
            print_json(facts(o, layer, active, live.active()->id));
        else if (o.prepare)
            fmt::print("would make the layer {}\n", escaped(layer));
        else
            fmt::print("would make the layer {}, let /dev/mapper/{} go on in it, and {} {}\n", escaped(layer), escaped(o.name),
                       seals ? "seal" : "freeze", escaped(active));
        return;
    }
    std::optional<device::NewLayer> made = device::make_layer_on(layer, live, active);
    if (o.prepare) {
        if (o.json)
            print_json(facts(o, layer, active, live.active()->id));
        else
            fmt::print("{}\n", escaped(layer));
        return;
    }
    std::optional<Error> thaw_failed, label_failed;
    // So that nobody seals the layer before it has its label. Who seals now does not know this one.
    std::optional<device::SealingTurn> turn = device::SealingTurn::if_free(o.name);
    for (int tries = 0; !take(o, live, layer, tries < 10, thaw_failed); tries++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        live = device::look_at_writable(o.name);
        made = device::make_layer_on(layer, live, active);
    }
    made.reset();  // who seals in the background must not have it
    o.label.time = std::time(nullptr);
    label_failed = write_down(o.label, active);
    turn.reset();
    if (o.json)
        print_json(facts(o, layer, active, live.active()->id));
    else
        fmt::print("/dev/mapper/{}: writes go to {}; {} is frozen{}\n", escaped(o.name), escaped(layer), escaped(active),
                   !seals   ? ""
                   : o.wait ? " and will be sealed"
                            : " and is being sealed");
    if (seals && o.wait)
        device::seal_all_frozen(o.name, o.how, [](const std::string&, const qcow2::SealResult&) {});
    else if (seals)
        device::seal_in_background(live, o.how);
    for (const auto& e : {thaw_failed, label_failed})
        if (e) throw Error(e->code(), fmt::format("{}: the snapshot is there", e->what()));
}

}  // namespace

CLI::App* add_snapshot(CLI::App& app, Exit&) {
    auto o = std::make_shared<Options>();
    CLI::App* c = app.add_subcommand("snapshot", "Freeze the state of the device NAME as a layer; writes go to a new one");
    c->add_option("NAME", o->name, "Name of the device")->required();
    c->add_option("--layer", o->layer,
                  "The new layer: a file to make, or a block device (default: the active layer's "
                  "name with the next number)")
        ->type_name("PATH");
    c->add_option("--name", o->label.name, "Name of the snapshot, by which other commands know it")->type_name("NAME");
    c->add_option("--note", o->label.note, "A line of text on it")->type_name("TEXT");
    c->add_option("--freeze", o->freeze, "Shell command that makes the guest's file systems consistent, run before")
        ->type_name("CMD");
    c->add_option("--thaw", o->thaw, "Shell command that undoes that, run afterwards in any case")->type_name("CMD");
    c->add_flag("--prepare", o->prepare, "Only make the new layer, for 'dmsetup message NAME 0 snapshot PATH'");
    c->add_flag("--no-seal", o->no_seal, "Leave the frozen layer unsealed; 'dmchain seal NAME' seals it later");
    c->add_flag("--wait", o->wait, "Return when the frozen layer is sealed");
    add_seal_options(*c, o->how);
    c->add_flag("--dry-run", o->how.dry_run, "Say what would be done");
    c->add_flag("--json", o->json, "Print JSON");
    c->callback([o] { run(*o); });
    return c;
}

}  // namespace dmchain::commands
