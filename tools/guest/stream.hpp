// SPDX-License-Identifier: GPL-2.0-or-later
// QEMU's migration stream. Source: QEMU's docs/devel/migration/main.rst, migration/ram.c, migration/savevm.c.
#pragma once

#include <string>

#include "guest/image.hpp"
#include "guest/writer.hpp"

namespace dmchain::guest {

// Whether one begins at byte @begin.
bool is_stream(const Source& source, std::uint64_t begin);
// Reads it, also with mapped-ram. Its end must be that of the source. What comes before it is kept as other bytes.
void read_stream(Image& image, std::uint64_t begin, const Seen& seen, const Done& progress);

// Pages go into one section that ends the memory, in any order; fewest bytes are written if those of a block follow each other.
class StreamWriter : public ImageWriter {
public:
    StreamWriter(std::vector<std::string> blocks, std::uint32_t ram_section, Put put)
        : blocks_(std::move(blocks)), section_(ram_section), put_(std::move(put)) {}

    void other(const void* data, std::size_t bytes, std::uint64_t at) override;
    void begin_pages() override;
    void page(std::size_t block, std::uint64_t page, const unsigned char* data) override;
    void end_pages() override;

private:
    void put(const void* data, std::size_t bytes);

    std::vector<std::string> blocks_;
    std::uint32_t section_;
    Put put_;
    std::uint64_t at_ = 0;
    std::size_t block_ = ~std::size_t{0};  // of the page before
};

}  // namespace dmchain::guest
