// SPDX-License-Identifier: GPL-2.0-or-later
// See shared.hpp.
#include "device/shared.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "chain/chain_file.hpp"
#include "chain/places.hpp"
#include "device/move.hpp"
#include "device/spare.hpp"
#include "io/text.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

Shared::Shared(const Subject& subject, const std::vector<ChainImage>& images, const std::vector<std::string>& registry)
    : subject_(subject), images_(images), why_(images.size()) {
    std::set<std::string> folders;
    for (const ChainImage& i : images)
        if (!i.identity.block_device) folders.insert(fs::path(i.path).parent_path().string());
    for (const std::string& f : folders) look_at_folder(f, false);
    for (const std::string& f : registry) look_at_folder(f, true);
    look_at_devices();
    std::sort(own_.begin(), own_.end());
    own_.erase(std::unique(own_.begin(), own_.end()), own_.end());
}

void Shared::refer(std::size_t number, const std::string& who) {
    for (std::size_t i = 0; i <= number; i++)
        if (!why_[i]) why_[i] = who;
}

std::optional<std::size_t> Shared::find(const Identity& who) const {
    for (std::size_t i = 0; i < images_.size(); i++)
        if (images_[i].identity.same_file(who)) return i;
    return std::nullopt;
}

void Shared::look_at_folder(const std::string& folder, bool deep) {
    std::error_code error;
    std::vector<std::string> files;
    const auto each = [&](auto&& entries) {
        for (auto i = fs::begin(entries); !error && i != fs::end(entries); i.increment(error)) {
            std::error_code none;
            if (i->is_regular_file(none)) files.push_back(i->path().string());
        }
    };
    if (deep)
        each(fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied, error));
    else
        each(fs::directory_iterator(folder, error));
    if (error) throw failed("{}: cannot look for images that stand on the layers: {}", escaped(folder), error.message());
    std::sort(files.begin(), files.end());  // the same one is named each time
    for (const std::string& f : files) look_at_file(f);
}

// What a move makes, as long as its note is there.
static bool is_of_move(const std::string& path) {
    static const std::string moving = MovePlan{}.moving();
    const std::string to = path.ends_with(moving) ? path.substr(0, path.size() - moving.size()) : path;
    std::error_code none;
    return fs::exists(to + note_ending, none);
}

void Shared::look_at_file(const std::string& path) {
    try {
        if (find(identity_of(path))) return;
        const File file(path);
        if (chain::is_chain_file(file)) return look_at_chain_file(file);
        if (!qcow2::has_magic(file)) return;
        const qcow2::Header header = qcow2::read_header(file, true, true);
        const std::optional<std::string> below = path_below(file, header);
        const auto there = below ? find_identity(*below) : std::nullopt;
        if (!there) return;
        const auto number = find(*there);
        // One that nobody went on in needs nothing.
        if (number && !is_abandoned(file, header))
            refer(*number,
                  fmt::format("{}{} stands on {}", escaped(file.path()), is_of_move(path) ? ", of a move that was cut off," : "",
                              *number + 1 < images_.size() ? in_quotes(images_[*number].path) : "it"));
    } catch (const Error&) {  // what cannot be read names nothing
    }
}

std::optional<std::size_t> Shared::find_layer(const chain::ChainFile& file, const chain_layer& layer) const {
    std::string path = file.path(layer);
    try {
        path = chain::likely_path(file, layer);
    } catch (const Error&) {  // then by the name it had
    }
    const auto there = find_identity(path);
    return there ? find(*there) : std::nullopt;
}

void Shared::look_at_chain_file(const File& opened) {
    if (subject_.device && subject_.device->chain.is(opened.identity())) return;
    const chain::ChainFile file{File(opened.path())};
    std::optional<std::size_t> highest;
    for (const chain_layer& l : file.layers())
        if (const auto number = find_layer(file, l)) highest = std::max(highest.value_or(0), *number);
    if (!highest) return;
    if (*highest + 1 == images_.size())
        own_.push_back(opened.path());
    else
        refer(*highest, fmt::format("the chain file {} names it", in_quotes(opened.path())));
}

void Shared::look_at_devices() {
    for (const dm::Device& d : dm::list_if_any()) {
        if (subject_.device && d.name == subject_.device->name) continue;
        const Live other = look_at(d.name);
        std::optional<std::size_t> highest;
        for (const dm::OpenLayer& theirs : other.layers)
            for (std::size_t i = 0; i < images_.size(); i++)
                if (theirs.is(images_[i].identity)) highest = std::max(highest.value_or(0), i);
        if (highest) refer(*highest, fmt::format("the device {} has it, too", escaped(d.name)));
    }
}

}  // namespace dmchain::device
