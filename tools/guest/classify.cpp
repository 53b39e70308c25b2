// SPDX-License-Identifier: GPL-2.0-or-later
// See classify.hpp. The rules for struct page are those of Linux' include/linux/page-flags.h and mm_types.h.
#include "guest/classify.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace dmchain::guest {

namespace {

// The low bits of page.mapping: set for anonymous pages; the other one alone for what is moved by a driver.
constexpr std::uint64_t mapping_anonymous = 1, mapping_movable = 2;
constexpr std::uint64_t compound_tail = 1;  // low bit of page.compound_head
// What address_space.host belongs to is looked up once for each; a guest has fewer files in its cache than this.
constexpr std::size_t most_mappings = 1u << 20;

// A page of struct pages, looked at again and again while its frames are gone through.
class StructPages {
public:
    explicit StructPages(const Kernel& kernel) : kernel_(kernel), l_(kernel.layout()), page_(page_bytes) {}

    // @address: of a struct page. nullptr: it is not mapped.
    const unsigned char* at(std::uint64_t address) {
        const std::uint64_t page = address & ~(page_bytes - 1);
        if (page != begin_) {
            const auto physical = kernel_.paging().find(page);
            if (!physical) return nullptr;
            kernel_.memory().read(page_.data(), page_bytes, *physical);
            begin_ = page;
        }
        const std::uint64_t within = address - page;
        return within + l_.struct_bytes <= page_bytes ? &page_[within] : nullptr;
    }

private:
    const Kernel& kernel_;
    const Layout& l_;
    std::vector<unsigned char> page_;
    std::uint64_t begin_ = 1;  // no page begins there
};

std::uint64_t u64_at(const unsigned char* p, std::uint64_t offset) {
    std::uint64_t n;
    std::memcpy(&n, p + offset, sizeof n);
    return n;
}
std::uint32_t u32_at(const unsigned char* p, std::uint64_t offset) {
    std::uint32_t n;
    std::memcpy(&n, p + offset, sizeof n);
    return n;
}
// -1 is: not mapped.
bool is_mapped(const unsigned char* p, std::uint64_t offset) { return static_cast<std::int32_t>(u32_at(p, offset)) >= 0; }

class Classifier {
public:
    explicit Classifier(const Kernel& kernel) : kernel_(kernel), l_(kernel.layout()), pages_(kernel), heads_(kernel) {}

    void run(std::vector<Class>& out) {
        std::uint64_t section = ~std::uint64_t{0}, map = 0;
        for (std::uint64_t i = 0; i < out.size(); i++) {
            const std::uint64_t frame = kernel_.memory().frame(i);
            if (frame / kernel_.section_frames() != section) {
                section = frame / kernel_.section_frames();
                map = kernel_.struct_page(frame);
                first_ = frame;
            }
            if (!map) continue;
            const unsigned char* const page = pages_.at(map + (frame - first_) * l_.struct_bytes);
            if (!page) continue;
            // Of a block of free pages only the first says so. One that is in use there is none of it, whatever that means.
            if (frame < free_end_ && u32_at(page, l_.refcount) == 0)
                out[i] = Class::free;
            else if ((out[i] = of(page)) == Class::free)
                free_end_ = frame + free_pages(page, frame);
        }
    }

private:
    std::uint64_t free_pages(const unsigned char* page, std::uint64_t frame) const {
        const std::uint64_t order = u64_at(page, l_.private_data);
        if (order >= l_.orders || order > 30) return 1;
        const std::uint64_t n = std::uint64_t{1} << order;
        return frame % n ? 1 : n;
    }

    Class of(const unsigned char* page) {
        const std::uint64_t compound = u64_at(page, l_.compound_head);
        if (!(compound & compound_tail)) return of_head(page);
        const std::uint64_t head = compound & ~compound_tail;
        if (head != last_head_) {
            const unsigned char* const p = heads_.at(head);
            // A head that is a tail itself is none.
            const bool sane = p && !(u64_at(p, l_.compound_head) & compound_tail);
            last_class_ = sane ? of_head(p) : Class::unknown;
            last_head_ = head;
        }
        return last_class_;
    }

    Class of_head(const unsigned char* page) {
        const std::uint64_t flags = u64_at(page, l_.flags), mapping = u64_at(page, l_.mapping);
        const std::uint32_t type = u32_at(page, l_.mapcount);
        const auto is_type = [&](const std::optional<std::uint32_t>& t) { return t && (type & l_.type_mask) == *t; };
        if (flags & l_.hwpoison) return Class::unknown;
        if (is_type(l_.buddy_type)) return Class::free;
        if (is_type(l_.offline_type)) return Class::offline;
        if ((l_.slab && (flags & *l_.slab)) || is_type(l_.slab_type)) return Class::slab;
        if (is_type(l_.table_type)) return Class::page_table;
        if (flags & l_.reserved) return Class::reserved;
        // Not in use, but in no list that says so either: those of each processor, pages on their way.
        if (u32_at(page, l_.refcount) == 0) return Class::unknown;
        if (mapping & mapping_anonymous) return Class::anonymous;
        if (mapping == 0 || (mapping & mapping_movable)) return Class::kernel;
        const Class c = of_mapping(mapping);
        if (c != Class::file_clean) return c;
        if (!(flags & l_.uptodate) || (flags & (l_.dirty | l_.writeback | l_.locked))) return Class::file_dirty;
        return is_held(page, flags) ? Class::file_mapped : Class::file_clean;
    }

    // Whether anything but the cache relies on the content of a page of it. The file system may say in private data which parts of
    // it have been read, and does so for folios of several pages. One that is in no list of those in use is in one of each
    // processor, which holds it, too.
    bool is_held(const unsigned char* page, std::uint64_t flags) const {
        const std::uint32_t holders = flags & l_.lru ? 1 : 2;
        return is_mapped(page, l_.mapcount) || (flags & (l_.head | l_.private_flags)) || u32_at(page, l_.refcount) != holders;
    }

    // Whose cache it is.
    Class of_mapping(std::uint64_t mapping) {
        const auto known = mappings_.find(mapping);
        if (known != mappings_.end()) return known->second;
        Class c = Class::kernel;
        try {
            c = look_up(mapping);
        } catch (const NotUnderstood&) {
            // Not every page with something in `mapping` is in a cache: drivers use the place, too.
        }
        if (mappings_.size() < most_mappings) mappings_.emplace(mapping, c);
        return c;
    }

    Class look_up(std::uint64_t mapping) const {
        const Paging& memory = kernel_.paging();
        const std::uint64_t inode = memory.read_u64(mapping + l_.host);
        if (!inode) return Class::kernel;
        const std::uint64_t super = memory.read_u64(inode + l_.super_block);
        std::uint16_t mode;
        memory.read(&mode, sizeof mode, inode + l_.mode);
        std::array<char, 16> name{};
        memory.read(name.data(), name.size() - 1, memory.read_u64(memory.read_u64(super + l_.type) + l_.type_name));
        const std::string type = name.data();
        if (type == "bdev") return Class::bdev_cache;
        if (type == "tmpfs" || type == "devtmpfs" || type == "ramfs" || type == "rootfs" || type == "hugetlbfs")
            return Class::shmem;
        return S_ISREG(mode) && memory.read_u64(super + l_.device) ? Class::file_clean : Class::unknown;
    }

    const Kernel& kernel_;
    const Layout& l_;
    StructPages pages_, heads_;
    std::uint64_t first_ = 0;     // frame of the section
    std::uint64_t free_end_ = 0;  // frame after the block of free pages
    std::uint64_t last_head_ = 0;
    Class last_class_ = Class::unknown;
    std::unordered_map<std::uint64_t, Class> mappings_;
};

}  // namespace

const char* name_of(Class c) {
    static constexpr std::array<const char*, classes> names = {
        "free",      "offline", "file-clean", "file-mapped", "file-dirty", "bdev-cache", "shmem",
        "anonymous", "slab",    "page-table", "kernel",      "reserved",   "device",     "unknown"};
    return names[static_cast<std::size_t>(c)];
}

bool is_critical(Class c) { return !is_unused(c) && c != Class::file_clean; }

PageMap classify(const Image& image, const Candidates& candidates) {
    PageMap map;
    for (const RamBlock& b : image.blocks) map.blocks.emplace_back(b.pages(), Class::device);
    const std::size_t main = Memory::main_block(image);
    std::vector<Class>& pages = map.blocks[main];
    std::fill(pages.begin(), pages.end(), Class::unknown);
    try {
        const auto kernel = Kernel::find(image, candidates);
        Classifier(*kernel).run(pages);
        map.release = kernel->release();
    } catch (const NotUnderstood& e) {
        std::fill(pages.begin(), pages.end(), Class::unknown);
        map.reason = e.what();
    }
    return map;
}

std::array<ClassCount, classes> count(const Image& image, const PageMap& map) {
    std::array<ClassCount, classes> out{};
    for (std::size_t b = 0; b < map.blocks.size(); b++) {
        const auto& where = image.blocks[b].where;
        for (std::size_t p = 0; p < where.size(); p++) {
            ClassCount& c = out[static_cast<std::size_t>(map.blocks[b][p])];
            c.pages++;
            if (!RamBlock::has_content(where[p])) c.zero_pages++;
        }
    }
    return out;
}

}  // namespace dmchain::guest
