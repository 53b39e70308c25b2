// SPDX-License-Identifier: GPL-2.0-or-later
// See compression.hpp.
#include "replica/compression.hpp"

#include <zstd.h>

#include <memory>

namespace dmchain::replica {

namespace {

constexpr int level = 3;  // zstd's own default
constexpr std::size_t least_saved = 4096;

}  // namespace

std::vector<unsigned char> compressed(const std::vector<unsigned char>& data) {
    if (data.size() <= least_saved) return {};
    thread_local const std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context{ZSTD_createCCtx(), ZSTD_freeCCtx};
    // What would be larger does not fit.
    std::vector<unsigned char> out(data.size() - least_saved);
    const std::size_t n = ZSTD_compressCCtx(context.get(), out.data(), out.size(), data.data(), data.size(), level);
    if (ZSTD_isError(n)) return {};
    out.resize(n);
    return out;
}

bool decompress(const std::vector<unsigned char>& from, std::size_t bytes, std::vector<unsigned char>& to) {
    to.resize(bytes);
    return ZSTD_decompress(to.data(), bytes, from.data(), from.size()) == bytes;
}

}  // namespace dmchain::replica
