// SPDX-License-Identifier: GPL-2.0-or-later
// See merge_note.hpp.
#include "device/merge_note.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "chain/output.hpp"
#include "device/merge.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;
using Json = nlohmann::json;

bool KnownFile::is(const Identity& i) const {
    return !i.block_device && i.inode == inode && i.bytes == bytes && i.mtime_sec == mtime_sec && i.mtime_nsec == mtime_nsec;
}

bool KnownFile::is_there() const {
    std::error_code none;
    return fs::is_regular_file(fs::symlink_status(path, none)) && is(identity_of(path));
}

KnownFile known_file(const std::string& path) {
    const Identity i = identity_of(path);
    return {path, i.inode, i.bytes, i.mtime_sec, i.mtime_nsec};
}

void to_json(Json& j, const KnownFile& k) {
    j = {{"path", k.path}, {"inode", k.inode}, {"bytes", k.bytes}, {"mtime_sec", k.mtime_sec}, {"mtime_nsec", k.mtime_nsec}};
}

void from_json(const Json& j, KnownFile& k) {
    j.at("path").get_to(k.path);
    j.at("inode").get_to(k.inode);
    j.at("bytes").get_to(k.bytes);
    j.at("mtime_sec").get_to(k.mtime_sec);
    j.at("mtime_nsec").get_to(k.mtime_nsec);
}

void to_json(Json& j, const AtRest& r) { j = {{"chain_files", r.chain_files}, {"allow", r.allow}, {"assume_raw", r.assume_raw}}; }

void from_json(const Json& j, AtRest& r) {
    r.chain_files = j.value("chain_files", r.chain_files);
    r.allow = j.value("allow", r.allow);
    r.assume_raw = j.value("assume_raw", r.assume_raw);
}

const char* name_of(Way way) {
    switch (way) {
    case Way::compress: return "compress";
    case Way::reflink: return "reflink";
    case Way::in_place: return "in-place";
    case Way::new_file: break;
    }
    return "new-file";
}

static Way way_of(const std::string& name) {
    for (const Way w : {Way::in_place, Way::reflink, Way::compress})
        if (name == name_of(w)) return w;
    return Way::new_file;
}

static void write_text(const std::string& file, const std::string& text) {
    chain::Output out(file);
    out.write(text.data(), text.size(), 0);
    out.commit(true);
}

void write_note(const MergeNote& n) {
    Json then = Json::array(), then_ways = Json::array();
    for (const MergeNote::Next& next : n.then) {
        then.push_back(next.old);
        then_ways.push_back(name_of(next.way));
    }
    Json j = {{"path", n.path},         {"old", n.old},           {"way", name_of(n.way)},   {"adding", n.adding},
              {"added", n.added},       {"copied", n.copied},     {"merged", n.merged},      {"then", then},
              {"then_ways", then_ways}, {"registry", n.registry}, {"unsharing", n.unsharing}};
    j.update(Json(n.rest));
    const std::string text = j.dump(1) + "\n";
    std::error_code none;
    write_text(n.file(), text);
    if (!n.pointer().empty() && !fs::exists(n.pointer(), none)) write_text(n.pointer(), text);
}

void remove_note(const MergeNote& n) {
    if (!n.pointer().empty()) remove_file(n.pointer());
    remove_file(n.file());
}

// Nothing: it is no note. Those of older versions have less.
static std::optional<MergeNote> parse_note(const std::string& file) {
    try {
        std::ifstream in(file);
        const std::string text((std::istreambuf_iterator<char>(in)), {});
        const Json j = Json::parse(text);
        MergeNote n;
        j.at("path").get_to(n.path);
        j.at("old").get_to(n.old);
        j.at("copied").get_to(n.copied);
        j.at("merged").get_to(n.merged);
        j.get_to(n.rest);
        n.registry = j.value("registry", n.registry);
        n.way = way_of(j.value("way", ""));
        n.adding = j.value("adding", false);
        n.added = j.value("added", n.added);
        n.unsharing = j.value("unsharing", n.unsharing);
        const Json then = j.value("then", Json::array()), ways = j.value("then_ways", Json::array());
        for (std::size_t i = 0; i < then.size(); i++)
            n.then.push_back({then[i].get<std::vector<KnownFile>>(), way_of(i < ways.size() ? ways[i].get<std::string>() : "")});
        if (n.old.empty()) return std::nullopt;
        return n;
    } catch (const Json::exception&) {
        return std::nullopt;
    }
}

bool is_note(const std::string& file) { return parse_note(file).has_value(); }

bool is_same_name(const std::string& a, const std::string& b) {
    std::error_code none;
    return fs::path(a).filename() == fs::path(b).filename() &&
           fs::equivalent(fs::path(a).parent_path(), fs::path(b).parent_path(), none);
}

std::optional<MergeNote> read_note(const std::string& path) {
    const std::string file = path + MergeNote{}.file();
    std::error_code none;
    if (!fs::exists(file, none)) return std::nullopt;
    const std::optional<MergeNote> n = parse_note(file);
    if (!n)
        throw failed("{}: is not the note of a merge: look at it, and at the layers it lies beside, and remove it",
                     escaped(file));
    // The one beside the lowest layer leads to the other one, which says how far it is.
    if (n->way == Way::in_place && fs::path(n->old.front().path).filename() == fs::path(path).filename()) {
        const std::string other = (fs::path(path).parent_path() / fs::path(n->path).filename()).string();
        return fs::exists(other + MergeNote{}.file(), none) ? read_note(other) : std::nullopt;
    }
    if (!is_same_name(n->path, path))
        throw failed("{}: is the note of a merge of {}: it was copied or moved; remove it", escaped(file), in_quotes(n->path));
    return n;
}

// The device's own names for its layers: in the midst of a merge the headers name others.
void require_settled(const std::string& layer) {
    // The note lies beside the topmost layer, and leads from the lowest: those between have none.
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(fs::path(layer).parent_path(), none)) {
        const std::string file = entry.path().string();
        if (!file.ends_with(MergeNote{}.file())) continue;
        const std::optional<MergeNote> n = parse_note(file);
        if (!n || n->way != Way::in_place) continue;
        for (std::size_t i = 0; i + 1 < n->old.size(); i++) {
            const KnownFile& k = n->old[i];
            if (fs::path(k.path).filename() == fs::path(layer).filename() && fs::exists(layer, none) &&
                identity_of(layer).inode == k.inode)
                throw failed("{}: is being merged into {}: it is no snapshot any more", escaped(layer), in_quotes(n->path));
        }
    }
}

std::vector<std::string> layer_paths(const Subject& subject, const qcow2::ChainOptions& options) {
    std::vector<std::string> out;
    if (subject.device) {
        for (const dm::OpenLayer& l : subject.device->layers)
            if (!l.device) out.push_back(l.path);
    } else {
        const qcow2::Chain chain = subject.open(options);
        for (const auto& l : chain.layers()) out.push_back(l->file().name());
    }
    return out;
}

std::vector<MergeNote> find_notes(const Subject& subject, const qcow2::ChainOptions& options) {
    static const std::string merging = MergeNote{}.merging();
    std::vector<MergeNote> out;
    for (std::string path : layer_paths(subject, options)) {
        if (path.ends_with(merging)) path.resize(path.size() - merging.size());
        auto note = read_note(path);
        const auto same = [&](const MergeNote& n) { return n.path == note->path; };
        if (note && std::none_of(out.begin(), out.end(), same)) out.push_back(std::move(*note));
    }
    // Of two the upper one was first: it is all but done.
    return {std::make_move_iterator(out.rbegin()), std::make_move_iterator(out.rend())};
}

void require_no_merge(const Subject& subject, const qcow2::ChainOptions& options) {
    if (!find_notes(subject, options).empty())
        throw failed("{}: a merge was cut off: finish it with 'dmchain compact {}', or give it up with --abort, first",
                     escaped(subject.name), escaped(subject.name));
}

}  // namespace dmchain::device
