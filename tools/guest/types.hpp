// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel's types, from the BTF that it carries: where members lie, and what enumerators are worth.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct btf;

namespace dmchain::guest {

class Types {
public:
    // @raw: what is between __start_BTF and __stop_BTF. Throws NotUnderstood.
    explicit Types(const std::vector<unsigned char>& raw);

    // Byte of @member in struct @type, also if it is in a nameless struct or union therein.
    std::optional<std::uint32_t> find_offset(const char* type, const char* member) const;
    std::uint32_t offset(const char* type, const char* member) const;  // throws NotUnderstood
    // Of any enum.
    std::optional<std::uint64_t> find_enumerator(const char* name) const;
    std::uint64_t enumerator(const char* name) const;  // throws NotUnderstood

private:
    std::optional<std::uint32_t> find_bits(std::uint32_t id, const char* member, unsigned& steps) const;

    struct Free {
        void operator()(::btf* b) const;
    };
    std::unique_ptr<::btf, Free> btf_;
};

}  // namespace dmchain::guest
