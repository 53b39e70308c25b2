// SPDX-License-Identifier: GPL-2.0-or-later
// See kallsyms.hpp. Names are strings of tokens: a length (of one byte, or two if the first has its top bit set), then as many
// bytes, each the number of a token. The first character is the symbol's type.
#include "guest/kallsyms.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

namespace dmchain::guest {

namespace {

// Several times what kernels have.
constexpr std::uint32_t most_symbols = 1u << 22;
constexpr std::size_t most_name = 1024;
constexpr std::uint64_t most_names = 64u << 20;  // bytes of the table

// Reads memory from an address on, in pieces.
class Bytes {
public:
    Bytes(const Paging& paging, std::uint64_t address) : paging_(paging), address_(address) {}
    std::uint8_t next() {
        if (at_ == n_) {
            if (read_ >= most_names) throw NotUnderstood("its table of symbols has no end");
            read_ += page_bytes;
            n_ = page_bytes - address_ % page_bytes;
            paging_.read(piece_.data(), n_, address_);
            address_ += n_;
            at_ = 0;
        }
        return piece_[at_++];
    }

private:
    const Paging& paging_;
    std::uint64_t address_;
    std::array<std::uint8_t, page_bytes> piece_{};
    std::size_t at_ = 0, n_ = 0;
    std::uint64_t read_ = 0;
};

}  // namespace

void find_symbols(const VmcoreInfo& info, const Paging& paging, std::map<std::string, std::uint64_t>& wanted) {
    std::uint32_t count;
    paging.read(&count, sizeof count, info.symbol("kallsyms_num_syms"));
    if (count == 0 || count > most_symbols) throw NotUnderstood(fmt::format("its table of symbols has {} entries", count));
    std::array<std::uint16_t, 256> index{};
    paging.read(index.data(), sizeof index, info.symbol("kallsyms_token_index"));
    std::array<std::string, 256> tokens;
    for (std::size_t i = 0; i < tokens.size(); i++) {
        Bytes token(paging, info.symbol("kallsyms_token_table") + index[i]);
        // A token is no longer than a name.
        for (char c; (c = static_cast<char>(token.next())) && tokens[i].size() < 512;) tokens[i] += c;
    }
    const std::uint64_t base = paging.read_u64(info.symbol("kallsyms_relative_base"));
    const std::uint64_t offsets = info.symbol("kallsyms_offsets");

    Bytes names(paging, info.symbol("kallsyms_names"));
    std::size_t left = wanted.size();
    std::string name;
    for (std::uint32_t i = 0; i < count && left; i++) {
        std::size_t n = names.next();
        if (n & 0x80) n = (n & 0x7f) | std::size_t{names.next()} << 7;
        name.clear();
        while (n--) {
            name += tokens[names.next()];
            if (name.size() > most_name) throw NotUnderstood("its table of symbols has a name that is too long");
        }
        if (name.empty()) continue;
        const auto it = wanted.find(name.substr(1));
        if (it == wanted.end() || it->second) continue;
        std::int32_t offset;
        paging.read(&offset, sizeof offset, offsets + std::uint64_t{i} * sizeof offset);
        // With per-processor symbols in the table, theirs are absolute, and all others are stored as what is below the base.
        it->second =
            offset < 0 ? base - 1 - static_cast<std::uint64_t>(std::int64_t{offset}) : base + static_cast<std::uint32_t>(offset);
        left--;
    }
}

}  // namespace dmchain::guest
