// SPDX-License-Identifier: GPL-2.0-or-later
// See move.hpp. In order, each step durable before the next: the note, the copy, its name, the exchange in the target, the header of the
// layer above, the old file. At any moment both files are there that somebody may look for.
#include "device/move.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "chain/output.hpp"
#include "chain/owner.hpp"
#include "device/growing.hpp"
#include "device/merge.hpp"
#include "device/shared.hpp"
#include "io/copy_file.hpp"
#include "io/lasting.hpp"
#include "io/no_room.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/header_bytes.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

void write_move(const MovePlan& p) {
    Json j = {{"from", p.from},
              {"to", p.to},
              {"above", p.above},
              {"copied", p.copied},
              {"copy", p.copy},
              {"bytes", p.bytes},
              {"backing_name", p.backing_name}};
    j.update(Json(p.rest));
    const std::string text = j.dump(1) + "\n";
    chain::Output out(p.note());
    out.write(text.data(), text.size(), 0);
    out.commit(true);
}

// Nothing: it is no note.
std::optional<MovePlan> parse_move(const std::string& file) {
    try {
        std::ifstream in(file);
        const Json j = Json::parse(std::string((std::istreambuf_iterator<char>(in)), {}));
        MovePlan p;
        j.at("from").get_to(p.from);
        j.at("to").get_to(p.to);
        j.at("above").get_to(p.above);
        j.at("copied").get_to(p.copied);
        j.at("copy").get_to(p.copy);
        j.at("backing_name").get_to(p.backing_name);
        j.at("bytes").get_to(p.bytes);
        j.get_to(p.rest);
        if (p.to.empty()) return std::nullopt;
        return p;
    } catch (const Json::exception&) {
        return std::nullopt;
    }
}

std::string absolute_target(const std::string& to, const std::string& from) {
    fs::path path = fs::absolute(to).lexically_normal();
    std::error_code none;
    if (fs::is_directory(path, none)) path /= fs::path(from).filename();
    if (!path.has_filename()) path = path.parent_path();
    return path.string();
}

// Why layer @i cannot be moved, or changed for that; "": it can.
std::string why_not(const ChainImage& i, const Shared& shared, std::size_t number) {
    using State = ChainImage::State;
    if (i.state == State::growing) return "is being added to, by a merge that was cut off: finish that with 'dmchain compact'";
    if (i.state == State::active) return "is the active layer";
    if (i.state == State::frozen) return "is frozen, and not sealed yet: wait for that, or run 'dmchain seal'";
    if (i.identity.block_device) return "is a block device: only layers that are files are moved";
    if (i.has_data_file) return "has an external data file: such layers stay where they are";
    if (i.is_part) return "is a part of a file: such layers stay where they are";
    std::error_code none;
    if (fs::is_symlink(fs::symlink_status(i.path, none))) return "is a symbolic link: only files under their own names are moved";
    if (shared.why(number)) return *shared.why(number);
    return "";
}

void require_room(const MovePlan& p) {
    struct statvfs st {};
    const std::string folder = fs::path(p.to).parent_path().string();
    if (::statvfs(folder.c_str(), &st) != 0)
        throw failed("{}: cannot look at its free space: {}", escaped(folder), std::strerror(errno));
    const std::uint64_t room = std::uint64_t{st.f_bavail} * st.f_frsize;
    if (room < p.bytes)
        throw failed("{}: {} are free, the layer takes {}: make room", escaped(folder), human_size(room), human_size(p.bytes));
}

std::string name_for_above(const MovePlan& p) {
    const qcow2::Header h = qcow2::read_header(File(p.above));
    const bool relative = !h.backing_name.value_or("").starts_with('/');
    return qcow2::backing_name(lasting_name(p.above), lasting_name(p.to), relative);
}

const dm::OpenLayer* find(const Live& live, const KnownFile& k) {
    for (const dm::OpenLayer& l : live.layers)
        if (!l.device && l.inode == k.inode && (l.path == k.path || l.now == k.path)) return &l;
    return nullptr;
}

// ---- Steps ----

void make_whole_copy(MovePlan& p, const MoveOptions& o) {
    if (!p.from.is_there()) throw failed("{}: is not the file that it was when the move began", escaped(p.from.path));
    remove_file(p.moving());
    copy_file(p.from.path, p.moving(), o.rate, nullptr, [&](std::uint64_t at) {
        if (o.progress) o.progress(at, p.from.bytes);
    });
    if (!p.backing_name.empty()) {
        Writable to = Writable::open(p.moving());
        qcow2::set_backing_name(to, p.backing_name);
    }
    p.copy = known_file(p.moving());
    p.copy.path = p.to;
    write_move(p);
    if (::renameat2(AT_FDCWD, p.moving().c_str(), AT_FDCWD, p.to.c_str(), RENAME_NOREPLACE) != 0)
        throw_not_written(escaped(p.moving()), fmt::format("get the name {}", in_quotes(p.to)), errno);
    sync_folder_of(p.to);
}

// What cannot go on gives its room back.
void make_copy(MovePlan& p, const MoveOptions& o) {
    try {
        make_whole_copy(p, o);
    } catch (const NoRoom& e) {
        remove_file(p.moving());
        throw NoRoom(fmt::format("{} (or give the move up with --abort)", e.what()));
    }
}

void require_copy(const MovePlan& p) {
    if (!p.copy.is_there())
        throw failed("{}: is not the copy that was made: the layer is still at {}", escaped(p.to), in_quotes(p.from.path));
}

void exchange_in_device(const std::string& device, const MovePlan& p) {
    const Live live = look_at(device);
    if (find(live, p.copy)) return;
    const dm::OpenLayer* l = find(live, p.from);
    if (!l) throw failed("{}: has neither the layer {} nor its copy", escaped(device), in_quotes(p.from.path));
    dm::message(device, fmt::format("copied {} {}", l->id, dm::message_word(p.to)));
}

void name_in_header(const Subject& subject, const MovePlan& p) {
    const std::string name = name_for_above(p);
    if (qcow2::read_header(File(p.above)).backing_name != name) {
        tell_growing(subject, p.rest, {p.above}, true);
        // The turn of a chain at rest is a lock of the image on top.
        const bool locked = !subject.device && fs::equivalent(p.above, subject.top);
        Writable above = locked ? Writable::open_locked(p.above) : Writable::open(p.above);
        qcow2::set_backing_name(above, name);
    }
    tell_growing(subject, p.rest, {p.above}, false);
}

}  // namespace

bool is_move_note(const std::string& file) { return parse_move(file).has_value(); }

std::optional<MovePlan> read_move(const std::string& to) {
    std::error_code none;
    const std::string note = to + note_ending;
    if (!fs::is_regular_file(note, none)) return std::nullopt;
    std::optional<MovePlan> p = parse_move(note);
    if (!p) throw failed("{}: is not the note of a move: look at it, and remove it", escaped(note));
    if (!is_same_name(p->to, to))
        throw failed("{}: is the note of a move to {}: it was copied or moved; remove it", escaped(note), in_quotes(p->to));
    return p;
}

std::optional<MovePlan> find_move(const Subject& subject, const std::string& to, const qcow2::ChainOptions& options) {
    std::error_code none;
    if (!fs::is_directory(to, none)) return read_move(absolute_target(to, ""));
    const std::vector<std::string> paths = layer_paths(subject, options);
    const auto has = [&](const std::string& path) { return std::find(paths.begin(), paths.end(), path) != paths.end(); };
    std::optional<MovePlan> found;
    for (const auto& entry : fs::directory_iterator(to)) {
        const std::string file = entry.path().string();
        if (!file.ends_with(note_ending)) continue;
        auto p = read_move(fs::absolute(file.substr(0, file.size() - note_ending.size())).lexically_normal().string());
        if (!p || (!has(p->above) && !has(p->from.path))) continue;
        if (found) throw failed("{}: two moves to it were cut off: name the file, not the folder", escaped(to));
        found = std::move(p);
    }
    return found;
}

MovePlan plan_move(const Subject& subject, const std::string& layer, const std::string& to,
                   const std::vector<std::string>& registry, const qcow2::ChainOptions& options) {
    if (subject.device && !subject.device->active())
        throw failed("{}: the device can only be read: its layers cannot be exchanged", escaped(subject.name));
    require_no_merge(subject, options);
    const std::vector<ChainImage> images = images_of(subject, subject.open(options));
    const std::size_t number = find_image(images, layer);
    const ChainImage& image = images[number];
    if (!subject.device && images.back().state != ChainImage::State::sealed) chain::require_ours(images.back().path, false);
    if (number + 1 == images.size())
        throw failed("{}: is the image on top of the chain: rename it, and tell its chain file with 'dmchain index'",
                     escaped(image.path));
    const Shared shared(subject, images, registry);
    MovePlan p;
    for (const std::size_t i : {number, number + 1}) {
        std::string why = why_not(images[i], shared, i);
        if (i > number && images[i].state == ChainImage::State::active)
            why = "is the active layer, whose header cannot be changed now: take a snapshot first";
        if (!why.empty() && i > number) why = fmt::format("is named by {}, which {}", in_quotes(images[i].path), why);
        if (!why.empty()) throw failed("{}: {}", escaped(image.path), why);
    }
    p.from = known_file(image.path);
    p.to = absolute_target(to, image.path);
    p.above = images[number + 1].path;
    p.bytes = image.file_used;
    p.rest = shared.at_rest(options);
    p.rest.allow.push_back(fs::path(p.to).parent_path().string());
    p.rest.allow.push_back(fs::path(p.from.path).parent_path().string());
    std::error_code none;
    for (const std::string& path : {p.to, p.moving(), p.note()})
        if (fs::exists(fs::symlink_status(path, none))) throw failed("{}: exists: name a file that is not there", escaped(path));
    if (!fs::is_directory(fs::path(p.to).parent_path(), none))
        throw failed("{}: there is no such folder", escaped(fs::path(p.to).parent_path().string()));
    const File from(p.from.path), above(p.above);
    require_no_user({&from, &above});
    qcow2::check_backing_name(p.above, name_for_above(p));
    // What its header says from its folder it has to say from the other one.
    if (number > 0 && fs::path(p.to).parent_path() != fs::path(p.from.path).parent_path() &&
        !qcow2::read_header(File(image.path)).backing_name.value_or("/").starts_with('/')) {
        p.backing_name = lasting_name(images[number - 1].path);
        qcow2::check_backing_name(image.path, p.backing_name);
    }
    require_room(p);
    return p;
}

void move_layer(const Subject& subject, MovePlan p, const MoveOptions& options) {
    std::error_code none;
    if (!p.copied) {
        write_move(p);
        // It may have its name already, which was not written down any more.
        if (!fs::exists(p.to, none)) make_copy(p, options);
        require_copy(p);
        p.copied = true;
        write_move(p);
    }
    require_copy(p);
    if (subject.device) exchange_in_device(subject.name, p);
    name_in_header(subject, p);
    if (p.from.is_there()) remove_file(p.from.path);
    remove_file(p.note());
}

void abort_move(const MovePlan& p) {
    if (p.copied)
        throw failed("{}: the copy may be a layer of the chain already: run the same command without --abort to go on",
                     escaped(p.to));
    remove_file(p.moving());
    if (p.copy.is_there()) remove_file(p.to);
    remove_file(p.note());
}

}  // namespace dmchain::device
