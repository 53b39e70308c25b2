// SPDX-License-Identifier: GPL-2.0-or-later
// The bytes that a memory image is read from: a file, parts of files one after another, and zeroes between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "io/file.hpp"

namespace dmchain::guest {

class Source {
public:
    // All of a file, which gives it its name.
    explicit Source(File file);
    // Nothing yet. @name: what messages call it.
    explicit Source(std::string name) : name_(std::move(name)) {}

    // Files that parts are of. Returns the number of the file.
    std::size_t hold(File file);
    // The next bytes are those of a held file, from byte @at on, or zeroes.
    void add(std::size_t file, std::uint64_t at, std::uint64_t bytes);
    void add_zeroes(std::uint64_t bytes) { add(none, 0, bytes); }

    const std::string& name() const { return name_; }
    std::uint64_t size() const { return size_; }
    const File& file(std::size_t number) const { return files_[number]; }

    // All of @bytes at @offset; throws as File does. Any thread.
    void read(void* to, std::size_t bytes, std::uint64_t offset) const;

private:
    static constexpr std::size_t none = ~std::size_t{0};
    struct Part {
        std::uint64_t begin;  // in the source
        std::size_t file;
        std::uint64_t at;  // in the file
    };

    std::string name_;
    std::vector<File> files_;
    std::vector<Part> parts_;  // each up to the next one
    std::uint64_t size_ = 0;
};

}  // namespace dmchain::guest
