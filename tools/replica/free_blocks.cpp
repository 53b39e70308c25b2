// SPDX-License-Identifier: GPL-2.0-or-later
// See free_blocks.hpp. libblkid says where the partitions are, and that one of them is ext4 and nothing else: the superblock of a file
// system that was there before may still be found. It reads files only, and so gets one that has the ends of the disk, or of a
// partition, where they belong.
#include "replica/free_blocks.hpp"

#include <blkid/blkid.h>
#include <ext2fs/ext2fs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "io/error.hpp"
#include "io/write_all.hpp"

namespace dmchain::replica {

namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t end_bytes = 1u << 20;  // of either end, that say what is there

// A file in memory with the ends of a part of the disk.
class Ends {
public:
    Ends(const chain::ReadDisk& read, const DiskRange& part) : fd_(::memfd_create("ends", MFD_CLOEXEC)) {
        const std::uint64_t bytes = part.end - part.begin, n = std::min(bytes, end_bytes);
        if (fd_ < 0 || ::ftruncate(fd_, static_cast<off_t>(bytes)) != 0)
            throw failed("cannot keep a part of the disk in memory: {}", std::strerror(errno));
        copy(read, part.begin, 0, n);
        copy(read, part.end - n, bytes - n, n);
    }
    Ends(const Ends&) = delete;
    ~Ends() {
        if (fd_ >= 0) ::close(fd_);
    }
    int fd() const { return fd_; }

private:
    void copy(const chain::ReadDisk& read, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) const {
        std::vector<unsigned char> data(bytes);
        read(data.data(), bytes, from);
        if (::lseek(fd_, static_cast<off_t>(to), SEEK_SET) < 0 || write_all(fd_, data.data(), bytes) != bytes)
            throw failed("cannot keep a part of the disk in memory: {}", std::strerror(errno));
    }
    int fd_;
};

using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, void (*)(blkid_probe)>;

Probe probe_of(const Ends& ends) {
    Probe p(blkid_new_probe(), blkid_free_probe);
    if (!p || blkid_probe_set_device(p.get(), ends.fd(), 0, 0) != 0) p.reset();
    return p;
}

bool is_ext(const chain::ReadDisk& read, const DiskRange& part) {
    const Ends ends(read, part);
    const Probe p = probe_of(ends);
    const char* type = nullptr;
    if (!p || blkid_probe_enable_superblocks(p.get(), 1) != 0 ||
        blkid_probe_set_superblocks_flags(p.get(), BLKID_SUBLKS_TYPE) != 0 || blkid_do_safeprobe(p.get()) != 0 ||
        blkid_probe_lookup_value(p.get(), "TYPE", &type, nullptr) != 0)
        return false;
    const std::string name = type;
    return name == "ext2" || name == "ext3" || name == "ext4";
}

// Those of the disk, or all of it if it has none. Nothing: they overlap, and so nobody knows what is whose.
std::vector<DiskRange> partitions(const chain::ReadDisk& read, std::uint64_t bytes) {
    const Ends ends(read, {0, bytes});
    const Probe p = probe_of(ends);
    if (!p || blkid_probe_enable_partitions(p.get(), 1) != 0) return {};
    const blkid_partlist list = blkid_probe_get_partitions(p.get());
    const int n = list ? blkid_partlist_numof_partitions(list) : 0;
    if (n <= 0) return {{0, bytes}};
    std::vector<DiskRange> out;
    for (int i = 0; i < n; i++) {
        const blkid_partition part = blkid_partlist_get_partition(list, i);
        if (blkid_partition_is_extended(part)) continue;
        const auto start = static_cast<std::uint64_t>(blkid_partition_get_start(part)),
                   size = static_cast<std::uint64_t>(blkid_partition_get_size(part));
        if (start > bytes / sector || size > bytes / sector - start) return {};
        out.push_back({start * sector, (start + size) * sector});
    }
    std::sort(out.begin(), out.end(), [](const DiskRange& a, const DiskRange& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < out.size(); i++)
        if (out[i].begin < out[i - 1].end) return {};
    return out;
}

// libext2fs reads the file system by these. It opens one by a name, which cannot hold where it is.
struct Place {
    const chain::ReadDisk* read = nullptr;
    DiskRange part;
};
thread_local const Place* opening = nullptr;

errcode_t open_place(const char* name, int, io_channel* channel);
errcode_t close_place(io_channel channel) {
    ext2fs_free_mem(&channel->name);
    ext2fs_free_mem(&channel);
    return 0;
}
errcode_t set_block_size(io_channel channel, int bytes) {
    channel->block_size = bytes;
    return 0;
}
// @count: blocks, or, if negative, bytes.
errcode_t read_blocks(io_channel channel, unsigned long long block, int count, void* to) {
    const auto& place = *static_cast<const Place*>(channel->private_data);
    const auto size = static_cast<std::uint64_t>(channel->block_size), room = place.part.end - place.part.begin;
    const std::uint64_t bytes =
        count < 0 ? static_cast<std::uint64_t>(-static_cast<std::int64_t>(count)) : static_cast<std::uint64_t>(count) * size;
    if (block > room / size || bytes > room - block * size) return EXT2_ET_SHORT_READ;
    try {
        (*place.read)(to, bytes, place.part.begin + block * size);
    } catch (const Error&) {
        return EXT2_ET_SHORT_READ;
    }
    return 0;
}
errcode_t read_few_blocks(io_channel channel, unsigned long block, int count, void* to) {
    return read_blocks(channel, block, count, to);
}
errcode_t write_nothing(io_channel, unsigned long, int, const void*) { return EXT2_ET_RO_FILSYS; }
errcode_t write_nothing_64(io_channel, unsigned long long, int, const void*) { return EXT2_ET_RO_FILSYS; }
errcode_t flush_nothing(io_channel) { return 0; }

io_manager manager() {
    static struct struct_io_manager m = [] {
        struct struct_io_manager out {};
        out.magic = EXT2_ET_MAGIC_IO_MANAGER;
        out.name = "a part of a disk";
        out.open = open_place;
        out.close = close_place;
        out.set_blksize = set_block_size;
        out.read_blk = read_few_blocks;
        out.write_blk = write_nothing;
        out.flush = flush_nothing;
        out.read_blk64 = read_blocks;
        out.write_blk64 = write_nothing_64;
        return out;
    }();
    return &m;
}

errcode_t open_place(const char* name, int, io_channel* channel) {
    io_channel made = nullptr;
    if (const errcode_t e = ext2fs_get_memzero(sizeof *made, &made)) return e;
    made->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    made->manager = manager();
    if (const errcode_t e = ext2fs_get_mem(std::strlen(name) + 1, &made->name)) {
        ext2fs_free_mem(&made);
        return e;
    }
    std::strcpy(made->name, name);
    made->block_size = 1024;
    made->refcount = 1;
    made->private_data = const_cast<Place*>(opening);
    *channel = made;
    return 0;
}

using FileSystem = std::unique_ptr<struct_ext2_filsys, void (*)(ext2_filsys)>;

// Nothing: what it says of its blocks is not all there is, or not to be trusted.
FileSystem open_quiet(const Place& place) {
    ext2_filsys fs = nullptr;
    opening = &place;
    const errcode_t error = ext2fs_open2("disk", nullptr, EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP, 0, 0, manager(), &fs);
    FileSystem out(error ? nullptr : fs, [](ext2_filsys f) { ext2fs_free(f); });
    if (!out) return out;
    const ext2_super_block& s = *fs->super;
    const bool quiet =
        s.s_state & EXT2_VALID_FS && !(s.s_state & EXT2_ERROR_FS) && !ext2fs_has_feature_journal_needs_recovery(fs->super);
    if (!quiet || ext2fs_has_feature_bigalloc(fs->super) || ext2fs_has_feature_journal_dev(fs->super)) out.reset();
    for (dgrp_t g = 0; out && g < fs->group_desc_count; g++)
        if (!ext2fs_group_desc_csum_verify(fs, g)) out.reset();
    if (out && ext2fs_read_block_bitmap(fs) != 0) out.reset();
    return out;
}

void add_free(const Place& place, std::vector<DiskRange>& out) {
    const FileSystem fs = open_quiet(place);
    if (!fs) return;
    const std::uint64_t size = fs->blocksize, last = ext2fs_blocks_count(fs->super) - 1;
    if (last >= (place.part.end - place.part.begin) / size) return;
    for (blk64_t at = fs->super->s_first_data_block, free = 0, used = 0; at <= last; at = used) {
        if (ext2fs_find_first_zero_block_bitmap2(fs->block_map, at, last, &free) != 0) break;
        if (ext2fs_find_first_set_block_bitmap2(fs->block_map, free, last, &used) != 0) used = last + 1;
        out.push_back({place.part.begin + free * size, place.part.begin + used * size});
    }
}

}  // namespace

std::vector<DiskRange> free_blocks(const chain::ReadDisk& read, std::uint64_t bytes) {
    std::vector<DiskRange> out;
    if (!bytes) return out;
    for (const DiskRange& part : partitions(read, bytes))
        if (part.end > part.begin && is_ext(read, part)) add_free({&read, part}, out);
    return out;
}

}  // namespace dmchain::replica
