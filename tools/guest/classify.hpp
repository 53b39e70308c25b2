// SPDX-License-Identifier: GPL-2.0-or-later
// What each page of a machine's memory is for.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/kernel.hpp"
#include "guest/image.hpp"

namespace dmchain::guest {

enum class Class : std::uint8_t {
    free,         // in the page allocator's lists
    offline,      // given away by a balloon, or switched off
    file_clean,   // cache of a regular file on a disk, as the disk has it, in no use: the guest can read it again
    file_mapped,  // the same, mapped into a process, or held by somebody else
    file_dirty,   // cache of a file, not written back, or not readable yet
    bdev_cache,   // cache of a block device: metadata of file systems
    shmem,        // tmpfs, shared memory
    anonymous,    // of processes
    slab,
    page_table,
    kernel,    // in use, and none of the above
    reserved,  // marked so by the kernel: its image, firmware
    device,    // memory of the machine that the kernel does not manage: video, firmware
    unknown,   // anything else
};
inline constexpr std::size_t classes = 14;

// As in reports, e.g. "file-clean".
const char* name_of(Class c);
// What a guest cannot go on without. The others are file_clean, free and offline.
bool is_critical(Class c);
// What no one reads: nothing of it need be kept.
inline bool is_unused(Class c) { return c == Class::free || c == Class::offline; }

struct PageMap {
    // Of each block of the image, a class for each page.
    std::vector<std::vector<Class>> blocks;
    std::string release;  // of the kernel; "": the guest was not understood, and all of its pages are unknown
    std::string reason;   // then, why
};

// Never throws NotUnderstood.
PageMap classify(const Image& image, const Candidates& candidates);

struct ClassCount {
    std::uint64_t pages = 0;
    std::uint64_t zero_pages = 0;  // of these, those that are all zero
};
std::array<ClassCount, classes> count(const Image& image, const PageMap& map);

}  // namespace dmchain::guest
