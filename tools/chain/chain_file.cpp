// SPDX-License-Identifier: GPL-2.0-or-later
#include "chain/chain_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

namespace {

// @base: byte of the file at which the structure that was checked begins. @super: nullptr: none is sound.
Error fault_error(const File& file, const chain_super* super, std::uint64_t base, const chain_fault& f) {
    return damaged("{}: at byte {}: {} is {}, expected {}{}{}: rebuild it with {}", escaped(file.path()), base + f.at, f.what,
                   f.found, f.bound, *f.bound ? " " : "", f.expected, remedy(super));
}

}  // namespace

const char* remedy(const chain_super* s) {
    if (!s) return "'dmchain recover' of the layer that was active last, or, if it was only read, 'dmchain index'";
    return chain_le16(s->active) != CHAIN_NO_LAYER ? "'dmchain recover'" : "'dmchain create' or 'dmchain index'";
}

// Either copy of the superblock may be torn.
bool is_chain_file(const File& file) {
    std::array<char, 8> magic{};
    for (std::uint64_t copy = 0; copy < CHAIN_SUPER_COPIES; copy++) {
        file.read_padded(magic.data(), magic.size(), copy * CHAIN_SUPER_BYTES);
        if (std::memcmp(magic.data(), CHAIN_MAGIC, magic.size()) == 0) return true;
    }
    return false;
}

ChainFile::ChainFile(File file) : file_(std::move(file)) {
    chain_fault fault{};
    std::array<chain_super, CHAIN_SUPER_COPIES> copies;
    if (!is_chain_file(file_)) throw damaged("{}: not a chain file: it does not begin with \"DMCHAIN\"", escaped(file_.path()));
    if (file_.size() < sizeof copies)
        throw damaged("{}: {} bytes: a chain file has at least {}", escaped(file_.path()), file_.size(), sizeof copies);
    file_.read(copies.data(), sizeof copies, 0);
    const int which = chain_check_supers(copies.data(), file_.size(), &fault);
    if (which < 0) throw fault_error(file_, nullptr, 0, fault);
    super_at_ = static_cast<std::uint64_t>(which) * sizeof super_;
    super_ = copies[static_cast<std::size_t>(which)];

    const std::uint64_t at = chain_le64(super_.layer_offset);
    const std::size_t count = chain_le32(super_.layer_count), strings = chain_le32(super_.string_bytes);
    std::vector<std::byte> table(count * sizeof(chain_layer) + strings);
    file_.read(table.data(), table.size(), at);
    if (!chain_check_layers(&super_, table.data(), &fault)) throw fault_error(file_, &super_, at, fault);
    layers_.resize(count);
    std::memcpy(layers_.data(), table.data(), count * sizeof(chain_layer));
    strings_.assign(reinterpret_cast<const char*>(table.data()) + count * sizeof(chain_layer), strings);

    for (const auto& l : layers_) {
        const std::size_t id = chain_le16(l.id);
        if (id >= layer_bytes_.size()) layer_bytes_.resize(id + 1);
        // A layer that is not sealed grows, its record does not follow.
        const bool grows = chain_le32(l.flags) & CHAIN_LAYER_UNSEALED;
        if (std::exchange(layer_bytes_[id], grows ? ~std::uint64_t{0} >> 1 : chain_le64(l.bytes)))
            throw damaged("{}: layer id {} is given twice: rebuild it with {}", escaped(file_.path()), id, remedy(&super_));
    }
    if (const std::uint16_t id = chain_le16(super_.active); id != CHAIN_NO_LAYER) {
        const chain_layer* l = active();
        if (!l || !(chain_le32(l->flags) & CHAIN_LAYER_UNSEALED))
            throw damaged("{}: at byte {}: active layer is {}, expected {}: rebuild it with 'dmchain recover'",
                          escaped(file_.path()), super_at_ + offsetof(chain_super, active), id,
                          l ? "one that is not sealed" : "one of the layer table");
    }
    geometry_.sectors = chain_le64(super_.sectors);
    geometry_.cluster_shift = super_.cluster_shift;
    geometry_.subblock_shift = super_.subblock_shift;
    geometry_.clusters = chain_clusters(geometry_.sectors, geometry_.cluster_shift);
    geometry_.file_bytes = chain_le64(super_.file_bytes);
    geometry_.ids = static_cast<unsigned>(layer_bytes_.size());
    geometry_.layer_bytes = reinterpret_cast<const __u64*>(layer_bytes_.data());
}

std::string ChainFile::path(const chain_layer& layer) const {
    return strings_.substr(chain_le32(layer.path_offset), chain_le16(layer.path_bytes));
}

std::string ChainFile::home() const { return strings_.substr(chain_le32(super_.home_offset), chain_le16(super_.home_bytes)); }

const chain_layer* ChainFile::active() const {
    for (const auto& l : layers_)
        if (l.id == super_.active) return &l;
    return nullptr;
}

void ChainFile::walk(std::uint64_t entry, unsigned level, std::uint64_t first) const {
    std::vector<std::uint64_t> words(chain_entry_layer(entry) * 512ul / sizeof(std::uint64_t));
    const auto bytes = static_cast<std::uint32_t>(words.size() * sizeof(std::uint64_t));
    const std::uint64_t at = chain_entry_pos(entry) << 9;
    chain_fault fault{};
    file_.read(words.data(), bytes, at);
    if (!chain_check_node(&geometry_, words.data(), bytes, level, first, &fault)) throw fault_error(file_, &super_, at, fault);
    if (!level) return;

    chain_node head;
    std::memcpy(&head, words.data(), sizeof head);
    const std::uint32_t count = chain_le16(head.count_minus_1) + 1u;
    const auto* starts = reinterpret_cast<const std::uint16_t*>(words.data() + sizeof head / 8 + count);
    for (std::uint32_t i = 0; i < count; i++) {
        const std::uint64_t child = chain_le64(words[sizeof head / 8 + i]);
        const std::uint64_t number = head.form == CHAIN_FORM_RUNS ? chain_le16(starts[i]) : i;
        if (chain_entry_kind(child) == CHAIN_NODE) walk(child, level - 1, first + (number << chain_level_shift(level)));
    }
}

void ChainFile::verify_index() const {
    const std::uint64_t root = chain_le64(super_.root);
    if (chain_entry_kind(root) == CHAIN_HOLE) return;
    chain_fault fault{};
    chain_node none{};
    none.level = CHAIN_LEVELS - 1;
    if (!chain_check_entry(&geometry_, &none, root, offsetof(chain_super, root), false, &fault))
        throw fault_error(file_, &super_, super_at_, fault);
    walk(root, CHAIN_LEVELS - 1, 0);
}

}  // namespace dmchain::chain
