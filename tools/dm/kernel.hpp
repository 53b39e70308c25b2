// SPDX-License-Identifier: GPL-2.0-or-later
// What dmchain needs of the kernel, what of it is there, and what to do if it is not. Asked before every request to
// device-mapper, so that what is missing is told in words; and by doctor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace dmchain::dm {

using Version = std::array<std::uint32_t, 3>;

// Of the module's target; a module with another first number has other messages or another status.
inline constexpr std::uint32_t target_major = 1;

enum class Module {
    missing,
    available,  // a file for this kernel that is not loaded
    loaded,     // or built in
};

struct Kernel {
    std::string release;  // as "uname -r" has it
    Module device_mapper = Module::missing;
    Module chain = Module::missing;
    bool root = false;
    int control_error = 0;           // errno of opening and asking /dev/mapper/control; 0: it answers
    std::optional<Version> version;  // of device-mapper
    bool signed_only = false;        // modules must be signed: Secure Boot, or set so
};

// Loads nothing. @root: where proc, sys, dev and lib/modules are, for tests.
Kernel look_at_kernel(const std::string& root = "");

// What is missing of something, and what to do about it.
struct Lack {
    std::string what, found, advice;
    std::string text() const { return what + ": " + found + ": " + advice; }
};
std::optional<Lack> lack_of_device_mapper(const Kernel& kernel);
// @target: the version of the target, if it answers.
std::optional<Lack> lack_of_target(const Kernel& kernel, const std::optional<Version>& target);

// Throws failed() with what is missing, if libdevmapper, which makes the control device and so loads the module where it can,
// gets no answer.
void require_device_mapper();

std::string to_string(const Version& v);

}  // namespace dmchain::dm
