// SPDX-License-Identifier: GPL-2.0-or-later
// What an image's backing or data file name means: plain paths, "file:" names and QEMU's json: names.
// Only the text is looked at; chain.cpp opens what it names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dmchain::qcow2 {

enum class Format : std::uint8_t { raw, qcow2 };

struct NamedFile {
    std::string path;                      // absolute, or relative to the folder of the image that names it
    std::optional<Format> format;          // if declared
    std::optional<std::string> data_file;  // json: names can say where the external data file is
};

// @name: from the image whose (messages') name is @image; @declared: its backing format extension.
// Throws failed() for what is no file: other protocols, unknown drivers and options.
NamedFile parse_file_name(const std::string& image, const std::string& name, const std::optional<std::string>& declared);

// The folder that a path says, not looked up.
std::string folder_of(const std::string& path);

// A format's name as qcow2 images declare it; throws failed() for those that are not supported.
Format parse_format(const std::string& image, const std::string& format);

}  // namespace dmchain::qcow2
