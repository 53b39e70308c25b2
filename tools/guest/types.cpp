// SPDX-License-Identifier: GPL-2.0-or-later
// See types.hpp.
#include "guest/types.hpp"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <cstring>

#include "guest/memory.hpp"

namespace dmchain::guest {

namespace {

// Structs, and nameless ones within them, that are gone through for one member: types may be made to refer to each other.
constexpr unsigned most_steps = 1000;

}  // namespace

void Types::Free::operator()(::btf* b) const { ::btf__free(b); }

Types::Types(const std::vector<unsigned char>& raw) {
    ::libbpf_set_print(nullptr);
    btf_.reset(::btf__new(raw.data(), static_cast<std::uint32_t>(raw.size())));
    if (!btf_) throw NotUnderstood(fmt::format("its BTF of {} bytes cannot be read: {}", raw.size(), std::strerror(errno)));
}

std::optional<std::uint32_t> Types::find_bits(std::uint32_t id, const char* member, unsigned& steps) const {
    const ::btf_type* type = ::btf__type_by_id(btf_.get(), id);
    if (!type || !btf_is_composite(type) || ++steps > most_steps) return std::nullopt;
    for (std::uint32_t i = 0; i < btf_vlen(type); i++) {
        const ::btf_member* const m = btf_members(type) + i;
        const char* const name = ::btf__name_by_offset(btf_.get(), m->name_off);
        const std::uint32_t bits = btf_member_bit_offset(type, i);
        if (name && *name) {
            if (std::strcmp(name, member) == 0) return bits;
        } else if (const auto within = find_bits(m->type, member, steps)) {
            return bits + *within;
        }
    }
    return std::nullopt;
}

std::optional<std::uint32_t> Types::find_offset(const char* type, const char* member) const {
    const std::int32_t id = ::btf__find_by_name_kind(btf_.get(), type, BTF_KIND_STRUCT);
    if (id < 0) return std::nullopt;
    unsigned steps = 0;
    const auto bits = find_bits(static_cast<std::uint32_t>(id), member, steps);
    if (!bits || *bits % 8) return std::nullopt;
    return *bits / 8;
}

std::uint32_t Types::offset(const char* type, const char* member) const {
    if (const auto at = find_offset(type, member)) return *at;
    throw NotUnderstood(fmt::format("its types have no {} in struct {}", member, type));
}

std::optional<std::uint64_t> Types::find_enumerator(const char* name) const {
    const std::uint32_t count = ::btf__type_cnt(btf_.get());
    for (std::uint32_t id = 1; id < count; id++) {
        const ::btf_type* const type = ::btf__type_by_id(btf_.get(), id);
        if (!btf_is_enum(type)) continue;
        for (std::uint32_t i = 0; i < btf_vlen(type); i++) {
            const struct ::btf_enum* const e = ::btf_enum(type) + i;
            const char* const text = ::btf__name_by_offset(btf_.get(), e->name_off);
            if (text && std::strcmp(text, name) == 0) return static_cast<std::uint32_t>(e->val);
        }
    }
    return std::nullopt;
}

std::uint64_t Types::enumerator(const char* name) const {
    if (const auto value = find_enumerator(name)) return *value;
    throw NotUnderstood(fmt::format("its types have no enumerator {}", name));
}

}  // namespace dmchain::guest
