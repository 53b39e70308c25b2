// SPDX-License-Identifier: GPL-2.0-or-later
// VMCOREINFO: what a Linux kernel writes down of itself for those who read its memory from outside. Source: Linux'
// Documentation/admin-guide/kdump/vmcoreinfo.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace dmchain::guest {

class VmcoreInfo {
public:
    // Whether a page begins with it, as the note that the kernel prepares; and how many bytes the note's text has then, at
    // byte text_at.
    static bool begins(const unsigned char* page);
    static std::uint32_t text_bytes(const unsigned char* page);
    static constexpr std::size_t text_at = 24;
    static constexpr std::size_t most_bytes = 64u << 10;

    explicit VmcoreInfo(std::string_view text);

    // Of SYMBOL(name), OFFSET(name) and so on. Those without "find" throw NotUnderstood if it is not there.
    std::uint64_t symbol(const std::string& name) const { return need("SYMBOL", name, 16); }
    std::uint64_t offset(const std::string& name) const { return need("OFFSET", name, 10); }
    std::uint64_t size(const std::string& name) const { return need("SIZE", name, 10); }
    std::uint64_t length(const std::string& name) const { return need("LENGTH", name, 10); }
    // May be negative.
    std::int64_t number(const std::string& name) const { return static_cast<std::int64_t>(need("NUMBER", name, 10)); }
    std::optional<std::int64_t> find_number(const std::string& name) const;
    std::string release() const;

private:
    std::uint64_t need(const char* kind, const std::string& name, int base) const;
    std::optional<std::uint64_t> find(const std::string& key, int base) const;

    std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace dmchain::guest
