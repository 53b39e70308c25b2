// SPDX-License-Identifier: GPL-2.0-or-later
// See backing.hpp.
#include "replica/backing.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "chain/copy_parts.hpp"
#include "io/crc32c.hpp"

namespace dmchain::replica {

namespace {

constexpr std::uint64_t nowhere = ~std::uint64_t{0};
// A guest may fill its memory and its disk with pages that have one checksum: not all of them are compared with each other.
constexpr unsigned most_compared = 64;

class Finder {
public:
    Finder(const guest::Image& image, std::vector<Backed>& pages) : image_(image), pages_(pages) {
        std::vector<unsigned char> page(guest::page_bytes);
        for (std::uint32_t i = 0; i < pages.size(); i++) {
            image.read_page(pages[i].block, pages[i].page, page.data());
            sums_.push_back({chain_crc32c_more(0, page.data(), page.size()), i});
            pages[i].disk = nowhere;
        }
        std::sort(sums_.begin(), sums_.end(), [](const Sum& a, const Sum& b) { return a.crc < b.crc; });
    }

    // Any thread.
    void look_at(const unsigned char* block, std::uint64_t disk) {
        const std::uint32_t crc = chain_crc32c_more(0, block, guest::page_bytes);
        auto s = std::lower_bound(sums_.begin(), sums_.end(), crc, [](const Sum& a, std::uint32_t b) { return a.crc < b; });
        if (s == sums_.end() || s->crc != crc) return;
        const std::lock_guard lock(finding_);
        for (unsigned n = 0; s != sums_.end() && s->crc == crc && n < most_compared; ++s, n++) {
            Backed& p = pages_[s->page];
            image_.read_page(p.block, p.page, page_.data());
            // Where there are several, the first one: whatever thread finds it, the result is the same.
            if (std::memcmp(page_.data(), block, guest::page_bytes) == 0) p.disk = std::min(p.disk, disk);
        }
    }

private:
    struct Sum {
        std::uint32_t crc, page;
    };

    const guest::Image& image_;
    std::vector<Backed>& pages_;
    std::vector<Sum> sums_;
    std::mutex finding_;  // covers pages_ and page_
    std::vector<unsigned char> page_ = std::vector<unsigned char>(guest::page_bytes);
};

}  // namespace

std::vector<Backed> find_on_disk(const guest::Image& image, std::vector<Backed> pages, const qcow2::Chain& chain,
                                 std::size_t point, const std::function<void(std::uint64_t)>& progress) {
    Finder finder(image, pages);
    chain::CopyHow how;
    how.readers = chain::readers_of(chain, point);
    chain::copy_parts(chain, {std::nullopt, point}, how, [&](const chain::Piece& piece) {
        if (piece.data) {
            // Whole blocks of the disk: file systems have their pages there.
            const std::uint64_t first = (piece.start + guest::page_bytes - 1) / guest::page_bytes * guest::page_bytes;
            for (std::uint64_t at = first; at + guest::page_bytes <= piece.start + piece.bytes; at += guest::page_bytes)
                finder.look_at(piece.data + (at - piece.start), at);
            progress(piece.bytes);
        }
    });
    std::erase_if(pages, [](const Backed& p) { return p.disk == nowhere; });
    std::sort(pages.begin(), pages.end(), [](const Backed& a, const Backed& b) { return a.disk < b.disk; });
    return pages;
}

}  // namespace dmchain::replica
