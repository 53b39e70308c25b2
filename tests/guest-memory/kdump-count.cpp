// SPDX-License-Identifier: GPL-2.0-or-later
// Counts the free and the anonymous pages of an ELF core of QEMU, by libkdumpfile: it finds the page tables and VMCOREINFO in its own
// way, and the counting here shares no code with dmchain. Prints "free N anonymous N".
#include <fcntl.h>
#include <libkdumpfile/kdumpfile.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

kdump_ctx_t* ctx;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "kdump-count: %s: %s\n", what, kdump_get_err(ctx));
    std::exit(1);
}

bool find(const std::string& key, std::uint64_t& n, int base) {
    char* text = nullptr;
    if (kdump_vmcoreinfo_line(ctx, key.c_str(), &text) != KDUMP_OK) return false;
    n = *text == '-' ? static_cast<std::uint64_t>(std::strtoll(text, nullptr, base)) : std::strtoull(text, nullptr, base);
    std::free(text);
    return true;
}
std::uint64_t need(const std::string& key, int base = 10) {
    std::uint64_t n = 0;
    if (!find(key, n, base)) fail(key.c_str());
    return n;
}

bool read(std::uint64_t address, void* to, std::size_t n) {
    std::size_t done = n;
    return kdump_read(ctx, KDUMP_KVADDR, address, to, &done) == KDUMP_OK && done == n;
}

template <typename T>
T at(const unsigned char* p, std::uint64_t offset) {
    T t;
    std::memcpy(&t, p + offset, sizeof t);
    return t;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    ctx = kdump_new();
    const int fd = open(argv[1], O_RDONLY);
    if (!ctx || fd < 0) fail(argv[1]);
    if (kdump_set_number_attr(ctx, KDUMP_ATTR_FILE_FD, static_cast<kdump_num_t>(fd)) != KDUMP_OK) fail("open");
    if (kdump_set_string_attr(ctx, KDUMP_ATTR_OSTYPE, "linux") != KDUMP_OK) fail("linux");

    const std::uint64_t size = need("SIZE(page)"), flags = need("OFFSET(page.flags)"), type = need("OFFSET(page._mapcount)"),
                        mapping = need("OFFSET(page.mapping)"), order = need("OFFSET(page.private)"),
                        head = need("OFFSET(page.compound_head)");
    const auto buddy = static_cast<std::uint32_t>(need("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"));
    std::uint64_t slab_flag = 0, slab_type = 0;
    if (!find("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", slab_type, 10)) slab_flag = std::uint64_t{1} << need("NUMBER(PG_slab)");

    const std::uint64_t section_size = need("SIZE(mem_section)"), per_root = 4096 / section_size;
    const std::uint64_t frames = std::uint64_t{1} << (need("NUMBER(SECTION_SIZE_BITS)") - 12);
    std::uint64_t free_pages = 0, anonymous = 0;
    for (std::uint64_t s = 0; s < (std::uint64_t{1} << 40) / 4096 / frames; s++) {
        std::uint64_t root = 0, map = 0;
        if (!read(need("SYMBOL(mem_section)", 16) + s / per_root * 8, &root, 8)) fail("mem_section");
        if (!root || !read(root + s % per_root * section_size, &map, 8)) continue;
        map &= ~std::uint64_t{4095};
        if (!map) continue;
        std::vector<unsigned char> pages(frames * size);
        if (!read(map + s * frames * size, pages.data(), pages.size())) fail("struct pages");
        const auto is_anonymous = [&](const unsigned char* p) {
            const bool slab = slab_flag ? (at<std::uint64_t>(p, flags) & slab_flag) != 0
                                        : at<std::uint32_t>(p, type) == static_cast<std::uint32_t>(slab_type);
            return !slab && at<std::uint32_t>(p, type) != buddy && (at<std::uint64_t>(p, mapping) & 1);
        };
        for (std::uint64_t i = 0; i < frames; i++) {
            const unsigned char* p = &pages[i * size];
            if (at<std::uint32_t>(p, type) == buddy) free_pages += std::uint64_t{1} << at<std::uint64_t>(p, order);
            const std::uint64_t h = at<std::uint64_t>(p, head);
            if (h & 1) {
                const std::uint64_t first = (h - 1 - map) / size - s * frames;
                if (first >= frames) fail("a head in another section");
                p = &pages[first * size];
            }
            if (is_anonymous(p)) anonymous++;
        }
    }
    std::printf("free %lu anonymous %lu\n", free_pages, anonymous);
    return 0;
}
