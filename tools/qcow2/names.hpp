// SPDX-License-Identifier: GPL-2.0-or-later
// What an image's backing or data file name means: plain paths, "file:" names and QEMU's json: names.
// Only the text is looked at; chain.cpp opens what it names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dmchain::qcow2 {

enum class Format : std::uint8_t { raw, qcow2 };

// A part of a file, which QEMU's driver raw can show as a disk. Bytes, multiples of 512.
struct Window {
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> size{};  // nothing: up to the end
};

struct NamedFile {
    std::string path;                // absolute, or relative to the folder of the image that names it
    std::optional<Format> format{};  // if declared
    // What json: names can say besides:
    std::vector<Window> windows{};           // the outermost first; only if the format is raw
    std::optional<std::string> data_file{};  // where the external data file is, whatever the image itself says
    bool alone = false;                      // its own backing file does not count
};

// @name: from the image whose (messages') name is @image; @declared: its backing format extension.
// Throws failed() for what is no file: other protocols, unknown drivers and options; and where two declarations contradict
// each other. What is accepted means what it means to QEMU 7.2.
NamedFile parse_file_name(const std::string& image, const std::string& name, const std::optional<std::string>& declared);

// The name of an external data file in the header of @image, which is a path as it stands there. Throws failed() for one that
// older versions of QEMU take for a protocol.
std::string parse_data_file_name(const std::string& image, const std::string& name);

// The folder that a path says, not looked up.
std::string folder_of(const std::string& path);

// A format's name as qcow2 images declare it; throws failed() for those that are not supported.
Format parse_format(const std::string& image, const std::string& format);

}  // namespace dmchain::qcow2
