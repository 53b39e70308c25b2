// SPDX-License-Identifier: GPL-2.0-or-later
// The one exception of dmchain: a line for the user and the exit code that goes with it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace dmchain {

// Exit codes that scripts rely on (docs, "dmchain COMMAND --help").
enum class Exit : int { done = 0, failed = 1, usage = 2, damaged = 3 };

// The message is one line: which file, where in it, what was found, what was expected, what to do.
// Bytes of names that would break the line or the terminal are escaped by whoever formats them
// (see io/text.hpp).
class Error : public std::runtime_error {
public:
    Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
    Exit code() const { return code_; }

private:
    Exit code_;
};

// throw failed("{}: cannot open: {}", path, reason)
template <typename... Args>
Error failed(fmt::format_string<Args...> text, Args&&... args) {
    return {Exit::failed, fmt::format(text, std::forward<Args>(args)...)};
}
template <typename... Args>
Error damaged(fmt::format_string<Args...> text, Args&&... args) {
    return {Exit::damaged, fmt::format(text, std::forward<Args>(args)...)};
}

}  // namespace dmchain
