// SPDX-License-Identifier: GPL-2.0-or-later
// For tests of memory images: what is in them, how they are refused, and writing them again.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "guest/image.hpp"
#include "guest/writer.hpp"
#include "io/error.hpp"
#include "support/folder.hpp"

namespace dmchain::test {

// Content of all pages, by block.
inline std::map<std::string, std::string> content(const guest::Image& image) {
    std::map<std::string, std::string> out;
    for (std::size_t b = 0; b < image.blocks.size(); b++) {
        std::string& all = out[image.blocks[b].name];
        std::string one(guest::page_bytes, '?');
        for (std::uint64_t p = 0; p < image.blocks[b].pages(); p++) {
            image.read_page(b, p, one.data());
            all += one;
        }
    }
    return out;
}

struct Refused {
    Exit code;
    std::string message;  // without the file's name
};
// Of a file with these bytes.
inline Refused refused(const std::string& bytes) {
    Folder folder;
    const std::string path = folder.write("image", bytes);
    try {
        guest::read_image(guest::Source(File(path)));
    } catch (const Error& e) {
        const std::string what = e.what();
        if (!what.starts_with(path + ": ")) return {e.code(), "without the name of the file: " + what};
        return {e.code(), what.substr(path.size() + 2)};
    }
    return {Exit::done, ""};
}

// All of an image, pages in order.
inline void write_again(const guest::Image& image, guest::ImageWriter& out) {
    const auto others = [&](std::size_t from, std::size_t to) {
        for (; from < to; from++) {
            const auto& range = image.others[from];
            std::vector<char> data(range.end - range.begin);
            image.source.read(data.data(), data.size(), range.begin);
            out.other(data.data(), data.size(), range.begin);
        }
    };
    others(0, image.before_pages);
    out.begin_pages();
    std::vector<unsigned char> page(guest::page_bytes);
    for (std::size_t b = 0; b < image.blocks.size(); b++)
        for (std::uint64_t p = 0; p < image.blocks[b].pages(); p++)
            out.page(b, p, image.read_page(b, p, page.data()) ? page.data() : nullptr);
    out.end_pages();
    others(image.before_pages, image.others.size());
}

// What a writer puts somewhere.
inline guest::Put put_into(std::string& file) {
    return [&file](const void* data, std::size_t bytes, std::uint64_t at) {
        if (file.size() < at + bytes) file.resize(at + bytes);
        file.replace(at, bytes, static_cast<const char*>(data), bytes);
    };
}

}  // namespace dmchain::test
