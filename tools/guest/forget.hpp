// SPDX-License-Identifier: GPL-2.0-or-later
// Clean cache of files whose content is lost: the guest's kernel is told, in its own memory, that these pages were never read. When
// somebody asks for one it reads it from the disk, as always.
#pragma once

#include <cstdint>
#include <vector>

#include "guest/classify.hpp"

namespace dmchain::guest {

struct PageAt {
    std::uint32_t block;
    std::uint64_t page;
};

// A number of 8 bytes, little-endian, to be written into the source of an image.
struct Change {
    std::uint64_t at;  // byte
    std::uint64_t value;
};

// What has to be changed if the content of @lost is not there. Throws NotUnderstood unless each of them is Class::file_clean, as the image
// says now.
std::vector<Change> forget_pages(const Image& image, const Candidates& candidates, const std::vector<PageAt>& lost);

}  // namespace dmchain::guest
