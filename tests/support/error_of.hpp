// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: what an error says.
#pragma once

#include <string>

#include "io/error.hpp"

namespace dmchain::test {

// "": @what throws none.
template <typename What>
std::string error_of(const What& what) {
    try {
        what();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

}  // namespace dmchain::test
