// SPDX-License-Identifier: GPL-2.0-or-later
// The Linux kernel in a guest's memory: found, and how it keeps account of pages. All that differs between kernels comes from
// the guest itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "guest/memory.hpp"
#include "guest/paging.hpp"
#include "guest/image.hpp"
#include "guest/types.hpp"
#include "guest/vmcoreinfo.hpp"

namespace dmchain::guest {

// What a struct page and what hangs on it look like. Bytes from the start of the struct; bits of page.flags as masks.
struct Layout {
    std::uint64_t struct_bytes;  // of struct page
    std::uint64_t flags, refcount, mapcount, mapping, private_data, compound_head;
    std::uint64_t locked, uptodate, dirty, writeback, reserved, hwpoison, lru, head;
    std::uint64_t private_flags;        // of those that say that there is private data
    std::optional<std::uint64_t> slab;  // a flag, or a type
    // What _mapcount is of pages that are never mapped.
    std::uint32_t buddy_type;
    std::uint64_t orders;  // blocks of free pages have 2^0 to 2^(orders - 1) of them
    std::optional<std::uint32_t> slab_type, offline_type, table_type;
    std::uint32_t type_mask;                // the bits of it that count
    std::uint64_t host, mode, super_block;  // address_space, inode
    std::uint64_t device, type, type_name;  // super_block, file_system_type
};

// Places where a VMCOREINFO begins, collected while the image is read.
class Candidates {
public:
    void look_at(std::size_t block, std::uint64_t page, const unsigned char* data);
    struct Place {
        std::size_t block;
        std::uint64_t page;
    };
    const std::vector<Place>& places() const { return places_; }

private:
    std::vector<Place> places_;
};

class Kernel {
public:
    // Throws NotUnderstood, with the reason, if there is none that this understands.
    static std::unique_ptr<Kernel> find(const Image& image, const Candidates& candidates);

    // @place: of @info. @low: see Memory.
    Kernel(const Image& image, const VmcoreInfo& info, const Candidates::Place& place, std::uint64_t low);
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;

    const std::string& release() const { return release_; }
    const Memory& memory() const { return memory_; }
    const Paging& paging() const { return paging_; }
    const Layout& layout() const { return layout_; }

    // Memory has its struct pages by sections of so many frames.
    std::uint64_t section_frames() const { return std::uint64_t{1} << section_shift_; }
    // The kernel's address of the struct page of a frame; 0: it has none.
    std::uint64_t struct_page(std::uint64_t frame) const;

private:
    void check_alive(const Image& image, std::uint64_t root) const;
    void check_alone(const VmcoreInfo& info) const;
    void read_layout(const VmcoreInfo& info, const Types& types);
    void find_table_type(const Types& types, std::uint64_t init_task);

    std::string release_;
    Memory memory_;
    Paging paging_;
    Layout layout_{};
    unsigned section_shift_ = 0;                    // log2 of page frames
    std::uint64_t roots_ = 0, root_count_ = 0;      // the kernel's array of pointers to arrays of sections
    std::uint64_t section_bytes_ = 0, map_at_ = 0;  // of struct mem_section
};

}  // namespace dmchain::guest
