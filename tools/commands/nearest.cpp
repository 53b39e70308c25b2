// SPDX-License-Identifier: GPL-2.0-or-later
// See nearest.hpp.
#include "commands/nearest.hpp"

#include <algorithm>

namespace dmchain::commands {
namespace {

// Letters to insert, remove, replace or exchange with their neighbour ("optimal string alignment").
std::size_t distance(const std::string& a, const std::string& b) {
    std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); i++) {
        for (std::size_t j = 0; j <= b.size(); j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[a.size()][b.size()];
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& words) {
    constexpr std::size_t longest = 32;
    if (word.empty() || word.size() > longest) return {};
    std::string best;
    std::size_t least = std::min<std::size_t>(2, word.size() - 1) + 1;
    for (const std::string& w : words) {
        const std::size_t n = w.starts_with(word) ? 0 : distance(word, w);
        if (n < least) {
            least = n;
            best = w;
        }
    }
    return best;
}

}  // namespace dmchain::commands
