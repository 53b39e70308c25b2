// SPDX-License-Identifier: GPL-2.0-or-later
// See forget.hpp. A page without PG_uptodate is read before it is used: Linux' mm/filemap.c, filemap_update_page(), filemap_fault().
#include "guest/forget.hpp"

#include <endian.h>
#include <fmt/format.h>

#include <cstring>

namespace dmchain::guest {

std::vector<Change> forget_pages(const Image& image, const Candidates& candidates, const std::vector<PageAt>& lost) {
    const PageMap map = classify(image, candidates);
    if (map.release.empty()) throw NotUnderstood(map.reason);
    const auto kernel = Kernel::find(image, candidates);
    const Memory& memory = kernel->memory();
    const Layout& l = kernel->layout();
    std::vector<Change> out;
    for (const PageAt& p : lost) {
        const Class c = map.blocks.at(p.block).at(p.page);
        if (c != Class::file_clean || p.block != memory.block())
            throw NotUnderstood(fmt::format("page {} of {} is {}, expected {}", p.page, image.blocks[p.block].name, name_of(c),
                                            name_of(Class::file_clean)));
        const std::uint64_t flags = kernel->struct_page(memory.frame(p.page)) + l.flags;
        const std::uint64_t physical = kernel->paging().physical(flags);
        const std::uint64_t where = image.blocks[p.block].where[memory.page_of(physical / page_bytes).value()];
        if (!RamBlock::has_content(where)) throw NotUnderstood(fmt::format("page {} has no struct page", p.page));
        std::uint64_t now;
        memory.read(&now, sizeof now, physical);
        out.push_back({where + physical % page_bytes, htole64(le64toh(now) & ~l.uptodate)});
    }
    return out;
}

}  // namespace dmchain::guest
