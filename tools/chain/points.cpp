// SPDX-License-Identifier: GPL-2.0-or-later
// See points.hpp.
#include "chain/points.hpp"

#include <filesystem>

#include "io/text.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_digits = 9;

bool leads_to(const fs::path& path, const Identity& who) {
    std::error_code none;
    return fs::exists(path, none) && who.same_file(identity_of(path.string()));
}

}  // namespace

std::optional<qcow2::Label> label_of(const qcow2::Layer& layer) {
    return layer.image() ? layer.image()->header().label : std::nullopt;
}

void require_whole(const std::optional<qcow2::Label>& label, const std::string& path) {
    if (label && label->pruned)
        throw failed("{}: is no snapshot any more: 'dmchain compact --prune' gave back what others do not need of it",
                     escaped(path));
}

std::size_t find_point(const std::vector<Point>& points, const std::string& text) {
    const std::string top = escaped(points.back().path);
    if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos && text.size() <= most_digits) {
        const std::size_t number = std::stoul(text);
        if (number < points.size()) return number;
        throw failed("{}: has no layer {}: expected 0 (the base) to {}", top, text, points.size() - 1);
    }
    std::optional<std::size_t> named;
    for (std::size_t i = 0; i < points.size(); i++) {
        if (text.empty() || !points[i].label || points[i].label->name != text) continue;
        if (named)
            throw failed("{}: the layers {} and {} both have the name {}: give the number", top, *named, i, in_quotes(text));
        named = i;
    }
    if (named) return *named;
    for (std::size_t i = points.size(); !text.empty() && i-- > 0;) {
        if (leads_to(text, points[i].identity)) return i;
        if (text.find('/') == std::string::npos && leads_to(fs::path(points[i].path).parent_path() / text, points[i].identity))
            return i;
    }
    throw failed("{}: {} is no layer of this chain: expected a number from 0 (the base) to {}, the name of a snapshot, or a path",
                 top, in_quotes(text), points.size() - 1);
}

std::size_t find_layer(const qcow2::Chain& chain, const std::string& text) {
    std::vector<Point> points;
    for (const auto& l : chain.layers()) points.push_back({l->file().path(), l->file().identity(), label_of(*l)});
    return find_point(points, text);
}

}  // namespace dmchain::chain
