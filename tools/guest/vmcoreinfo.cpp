// SPDX-License-Identifier: GPL-2.0-or-later
// See vmcoreinfo.hpp.
#include "guest/vmcoreinfo.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "guest/memory.hpp"

namespace dmchain::guest {

namespace {

// An ELF note: the length of the name with its zero, the length of the text, the kind; the name, and the text.
constexpr char name_and_first_key[] = "VMCOREINFO\0\0OSRELEASE=";
constexpr std::size_t name_at = 12;

}  // namespace

bool VmcoreInfo::begins(const unsigned char* page) {
    return std::memcmp(page + name_at, name_and_first_key, sizeof name_and_first_key - 1) == 0;
}

std::uint32_t VmcoreInfo::text_bytes(const unsigned char* page) {
    std::uint32_t n;
    std::memcpy(&n, page + 4, sizeof n);
    return n;
}

VmcoreInfo::VmcoreInfo(std::string_view text) {
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        if (const std::size_t equals = line.find('='); equals != std::string_view::npos)
            values_.emplace(line.substr(0, equals), line.substr(equals + 1));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
    }
}

std::optional<std::uint64_t> VmcoreInfo::find(const std::string& key, int base) const {
    const auto it = values_.find(key);
    if (it == values_.end()) return std::nullopt;
    char* end = nullptr;
    errno = 0;
    const char* const text = it->second.c_str();
    const std::uint64_t n =
        *text == '-' ? static_cast<std::uint64_t>(std::strtoll(text, &end, base)) : std::strtoull(text, &end, base);
    if (end == text || *end || errno)
        throw NotUnderstood(fmt::format("its VMCOREINFO says of {} {:?}, expected a number", key, it->second.substr(0, 40)));
    return n;
}

std::uint64_t VmcoreInfo::need(const char* kind, const std::string& name, int base) const {
    const std::string key = fmt::format("{}({})", kind, name);
    if (const auto n = find(key, base)) return *n;
    throw NotUnderstood(fmt::format("its VMCOREINFO has no {}", key));
}

std::optional<std::int64_t> VmcoreInfo::find_number(const std::string& name) const {
    if (const auto n = find("NUMBER(" + name + ")", 10)) return static_cast<std::int64_t>(*n);
    return std::nullopt;
}

std::string VmcoreInfo::release() const {
    const auto it = values_.find("OSRELEASE");
    return it == values_.end() ? "" : it->second;
}

}  // namespace dmchain::guest
