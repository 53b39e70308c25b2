// SPDX-License-Identifier: GPL-2.0-or-later
// See kernel.hpp.
#include "guest/kernel.hpp"

#include <endian.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_set>

#include "guest/kallsyms.hpp"
#include "io/text.hpp"

namespace dmchain::guest {

namespace {

// Where the kernel's image is mapped, from which its physical addresses count (__START_KERNEL_map).
constexpr std::uint64_t image_map = 0xffffffff80000000;
constexpr std::uint64_t most_btf = 64u << 20;
// A guest's memory may hold copies of VMCOREINFO in files, and of kernels that ran before.
constexpr std::size_t most_candidates = 16;
constexpr unsigned most_tasks = 4096;
constexpr std::uint64_t most_tail = 64u << 20;
constexpr std::uint64_t address_bits = 0x000ffffffffff000;  // of a page table entry

std::uint64_t root_of(const VmcoreInfo& info) {
    return info.symbol("init_top_pgt") - image_map + static_cast<std::uint64_t>(info.number("phys_base"));
}

unsigned levels_of(const VmcoreInfo& info) { return info.number("pgtable_l5_enabled") ? 5 : 4; }

// The whole note that begins at a page; nullopt: there is none.
std::optional<VmcoreInfo> read_info(const Image& image, const Candidates::Place& place) {
    std::vector<unsigned char> page(page_bytes);
    image.read_page(place.block, place.page, page.data());
    if (!VmcoreInfo::begins(page.data())) return std::nullopt;
    const std::uint32_t bytes = VmcoreInfo::text_bytes(page.data());
    if (bytes > VmcoreInfo::most_bytes) return std::nullopt;
    std::string text;
    for (std::uint64_t p = place.page; p < image.blocks[place.block].pages(); p++) {
        const std::size_t from = text.empty() ? VmcoreInfo::text_at : 0;
        image.read_page(place.block, p, page.data());
        text.append(page.begin() + static_cast<std::ptrdiff_t>(from), page.end());
        if (text.size() >= bytes) return VmcoreInfo(std::string_view(text).substr(0, bytes));
    }
    return std::nullopt;
}

std::uint64_t flag(std::uint64_t bit) {
    if (bit > 63) throw NotUnderstood(fmt::format("it has a page flag number {}", bit));
    return std::uint64_t{1} << bit;
}

}  // namespace

void Candidates::look_at(std::size_t block, std::uint64_t page, const unsigned char* data) {
    if (VmcoreInfo::begins(data) && places_.size() < most_candidates) places_.push_back({block, page});
}

std::unique_ptr<Kernel> Kernel::find(const Image& image, const Candidates& candidates) {
    const std::size_t block = Memory::main_block(image);
    std::string reason = "no Linux kernel was found in it (VMCOREINFO)";
    // The most telling reason is the one of the most likely split.
    for (const auto& place : candidates.places()) {
        if (place.block != block) continue;
        bool first = true;
        for (const std::uint64_t low : Memory::low_candidates(image, block)) {
            try {
                if (const auto info = read_info(image, place)) return std::make_unique<Kernel>(image, *info, place, low);
            } catch (const NotUnderstood& e) {
                if (first) reason = e.what();
            }
            first = false;
        }
    }
    throw NotUnderstood(reason);
}

Kernel::Kernel(const Image& image, const VmcoreInfo& info, const Candidates::Place& place, std::uint64_t low)
    : release_(info.release()), memory_(image, place.block, low), paging_{memory_, root_of(info), levels_of(info)} {
    if (info.find_number("sme_mask").value_or(0) != 0) throw NotUnderstood("its memory is encrypted");
    std::map<std::string, std::uint64_t> symbols = {
        {"__start_BTF", 0}, {"__stop_BTF", 0}, {"init_task", 0}, {"vmcoreinfo_note", 0}};
    if (image.processors) check_alive(image, root_of(info));
    find_symbols(info, paging_, symbols);
    for (const auto& [symbol, address] : symbols)
        if (!address) throw NotUnderstood(fmt::format("its table of symbols has no {}", symbol));
    if (!image.processors) check_alone(info);
    if (paging_.physical(paging_.read_u64(symbols["vmcoreinfo_note"])) != memory_.frame(place.page) * page_bytes)
        throw NotUnderstood("its VMCOREINFO is a copy, or of a kernel that ran before");
    const std::uint64_t start = symbols["__start_BTF"], stop = symbols["__stop_BTF"];
    if (stop <= start || stop - start > most_btf)
        throw NotUnderstood(fmt::format("its types (BTF) are between {:#x} and {:#x}", start, stop));
    std::vector<unsigned char> raw(stop - start);
    paging_.read(raw.data(), raw.size(), start);
    const Types types(raw);
    read_layout(info, types);

    // With the memory above 4 GiB elsewhere, its last section would not be there.
    if (!struct_page(memory_.end() / page_bytes - 1))
        throw NotUnderstood(fmt::format("it has no memory at {:#x}", memory_.end() - page_bytes));
    find_table_type(types, symbols["init_task"]);
}

// A kernel that ran before a reset may still be there as a whole. Of the one that runs, a processor has page tables in use: their
// address is somewhere in the state of the devices. All of them share the kernel's half, which has its image at the end.
void Kernel::check_alive(const Image& image, std::uint64_t root) const {
    constexpr std::uint64_t last_entry = page_bytes - sizeof(std::uint64_t);
    std::uint64_t of_image;
    memory_.read(&of_image, sizeof of_image, root + last_entry);
    const Range& at = *image.processors;
    std::vector<unsigned char> tail(std::min(at.end - at.begin, most_tail));
    image.source.read(tail.data(), tail.size(), at.begin);
    std::unordered_set<std::uint64_t> seen;
    for (std::size_t i = 0; i + 8 <= tail.size(); i++) {
        std::uint64_t n;
        std::memcpy(&n, &tail[i], sizeof n);
        n = image.form == Form::core ? le64toh(n) : be64toh(n);
        // The second one, where a process has tables of its own that lack the kernel (page table isolation).
        for (const std::uint64_t pages : {std::uint64_t{1}, std::uint64_t{2}}) {
            const std::uint64_t table = n / page_bytes / pages * pages;
            if (!memory_.page_of(table) || !seen.insert(table).second) continue;
            std::uint64_t entry;
            memory_.read(&entry, sizeof entry, table * page_bytes + last_entry);
            if ((entry & address_bits) == (of_image & address_bits)) return;
        }
    }
    throw NotUnderstood("no processor runs the Linux kernel that was found in it");
}

// Without the state of the processors, which is so with Firecracker: there no memory outlives a reset, so that another kernel can
// only run if this one has started it, for which it is loaded first.
void Kernel::check_alone(const VmcoreInfo& info) const {
    std::map<std::string, std::uint64_t> loaded = {{"kexec_image", 0}, {"kexec_crash_image", 0}};
    find_symbols(info, paging_, loaded);
    for (const auto& [symbol, address] : loaded)
        if (address && paging_.read_u64(address))
            throw NotUnderstood(
                fmt::format("it may have started another kernel ({} is set), and the processors' state is not there", symbol));
}

void Kernel::read_layout(const VmcoreInfo& info, const Types& types) {
    Layout& l = layout_;
    l.struct_bytes = info.size("page");
    l.flags = info.offset("page.flags");
    l.refcount = info.offset("page._refcount");
    l.mapcount = info.offset("page._mapcount");
    l.mapping = info.offset("page.mapping");
    l.private_data = info.offset("page.private");
    l.compound_head = info.offset("page.compound_head");
    for (const std::uint64_t at : {l.flags, l.refcount, l.mapcount, l.mapping, l.private_data, l.compound_head})
        if (l.struct_bytes > page_bytes || page_bytes % l.struct_bytes || at + 8 > l.struct_bytes)
            throw NotUnderstood(fmt::format("its struct page has {} bytes and a member at {}", l.struct_bytes, at));

    l.locked = flag(types.enumerator("PG_locked"));
    l.uptodate = flag(types.enumerator("PG_uptodate"));
    l.dirty = flag(types.enumerator("PG_dirty"));
    l.writeback = flag(types.enumerator("PG_writeback"));
    l.reserved = flag(types.enumerator("PG_reserved"));
    l.lru = flag(types.enumerator("PG_lru"));
    l.head = flag(types.enumerator("PG_head"));
    l.private_flags = flag(types.enumerator("PG_private")) | flag(types.enumerator("PG_private_2"));
    l.hwpoison = 0;
    if (const auto bit = info.find_number("PG_hwpoison")) l.hwpoison = flag(static_cast<std::uint64_t>(*bit));

    l.buddy_type = static_cast<std::uint32_t>(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"));
    l.orders = info.length("zone.free_area");
    // Since Linux 6.11 the type is the upper byte, and its owner has the rest.
    l.type_mask = l.buddy_type & 0xffffff ? ~std::uint32_t{0} : 0xff000000;
    if (const auto type = info.find_number("PAGE_OFFLINE_MAPCOUNT_VALUE")) l.offline_type = static_cast<std::uint32_t>(*type);
    if (const auto type = info.find_number("PAGE_SLAB_MAPCOUNT_VALUE"))
        l.slab_type = static_cast<std::uint32_t>(*type);
    else
        l.slab = flag(static_cast<std::uint64_t>(info.number("PG_slab")));

    l.host = types.offset("address_space", "host");
    l.mode = types.offset("inode", "i_mode");
    l.super_block = types.offset("inode", "i_sb");
    l.device = types.offset("super_block", "s_bdev");
    l.type = types.offset("super_block", "s_type");
    l.type_name = types.offset("file_system_type", "name");

    const std::int64_t section_bits = info.number("SECTION_SIZE_BITS"), memory_bits = info.number("MAX_PHYSMEM_BITS");
    section_bytes_ = info.size("mem_section");
    map_at_ = info.offset("mem_section.section_mem_map");
    roots_ = info.symbol("mem_section");
    root_count_ = info.length("mem_section");
    if (section_bits < 12 || section_bits > 40 || memory_bits < section_bits || memory_bits > 52 || section_bytes_ == 0 ||
        section_bytes_ > page_bytes || map_at_ + 8 > section_bytes_ ||
        root_count_ != (std::uint64_t{1} << (memory_bits - section_bits)) / (page_bytes / section_bytes_))
        throw NotUnderstood(
            fmt::format("its table of memory sections has {} entries of {} bytes, for sections of 2^{} of 2^{} bytes",
                        root_count_, section_bytes_, section_bits, memory_bits));
    section_shift_ = static_cast<unsigned>(section_bits) - 12;
}

std::uint64_t Kernel::struct_page(std::uint64_t frame) const {
    const std::uint64_t section = frame >> section_shift_, per_root = page_bytes / section_bytes_;
    if (section / per_root >= root_count_) return 0;
    const std::uint64_t root = paging_.read_u64(roots_ + section / per_root * sizeof(std::uint64_t));
    if (!root) return 0;
    // The lower bits are flags. Without them it is where the struct page of frame 0 would be.
    const std::uint64_t map = paging_.read_u64(root + section % per_root * section_bytes_ + map_at_) & ~(page_bytes - 1);
    return map ? map + frame * layout_.struct_bytes : 0;
}

// Which type page tables have is not written down: it is looked up at a page table of the first process that has any.
void Kernel::find_table_type(const Types& types, std::uint64_t init_task) {
    const std::uint64_t tasks = types.offset("task_struct", "tasks"), mm_at = types.offset("task_struct", "mm"),
                        pgd_at = types.offset("mm_struct", "pgd");
    std::uint64_t task = init_task, mm = 0;
    for (unsigned i = 0; i < most_tasks && !mm; i++) {
        task = paging_.read_u64(task + tasks) - tasks;
        if (task == init_task) return;
        mm = paging_.read_u64(task + mm_at);
    }
    if (!mm) return;
    const auto table = paging_.lowest_table(paging_.physical(paging_.read_u64(mm + pgd_at)));
    const std::uint64_t page = table ? struct_page(*table / page_bytes) : 0;
    if (!page) return;
    std::uint32_t type;
    paging_.read(&type, sizeof type, page + layout_.mapcount);
    if (static_cast<std::int32_t>(type) < -1) layout_.table_type = type & layout_.type_mask;
}

}  // namespace dmchain::guest
