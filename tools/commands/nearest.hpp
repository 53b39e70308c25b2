// SPDX-License-Identifier: GPL-2.0-or-later
// What a mistyped word was meant to be.
#pragma once

#include <string>
#include <vector>

namespace dmchain::commands {

// The one of @words that is most like @word: begins with it, or differs in a letter or two; "": none does.
std::string nearest(const std::string& word, const std::vector<std::string>& words);

}  // namespace dmchain::commands
