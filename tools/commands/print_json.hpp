// SPDX-License-Identifier: GPL-2.0-or-later
// What --json prints. Names need not be UTF-8: bytes that are not are replaced.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace dmchain::commands {

// nlohmann::json, or ordered_json.
template <typename Json>
void print_json(const Json& j) {
    fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace dmchain::commands
