// SPDX-License-Identifier: GPL-2.0-or-later
// See points.hpp.
#include "chain/points.hpp"

#include <filesystem>

#include "io/text.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_digits = 9;

bool leads_to(const fs::path& path, const File& file) {
    std::error_code none;
    return fs::exists(path, none) && file.identity().same_file(identity_of(path.string()));
}

}  // namespace

std::optional<qcow2::Label> label_of(const qcow2::Layer& layer) {
    return layer.image() ? layer.image()->header().label : std::nullopt;
}

std::size_t find_layer(const qcow2::Chain& chain, const std::string& text) {
    const auto& layers = chain.layers();
    const std::string top = escaped(chain.top().file().path());
    if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos && text.size() <= most_digits) {
        const std::size_t number = std::stoul(text);
        if (number < layers.size()) return number;
        throw failed("{}: has no layer {}: expected 0 (the base) to {}", top, text, layers.size() - 1);
    }
    std::optional<std::size_t> named;
    for (std::size_t i = 0; i < layers.size(); i++) {
        const std::optional<qcow2::Label> label = label_of(*layers[i]);
        if (text.empty() || !label || label->name != text) continue;
        if (named)
            throw failed("{}: the layers {} and {} both have the name {}: give the number", top, *named, i, in_quotes(text));
        named = i;
    }
    if (named) return *named;
    for (std::size_t i = layers.size(); i-- > 0;) {
        const File& file = layers[i]->file();
        if (leads_to(text, file)) return i;
        if (text.find('/') == std::string::npos && leads_to(fs::path(file.path()).parent_path() / text, file)) return i;
    }
    throw failed("{}: {} is no layer of this chain: expected a number from 0 (the base) to {}, the name of a snapshot, or a path",
                 top, in_quotes(text), layers.size() - 1);
}

}  // namespace dmchain::chain
