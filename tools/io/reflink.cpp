// SPDX-License-Identifier: GPL-2.0-or-later
// See reflink.hpp.
#include "io/reflink.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/write_all.hpp"

namespace dmchain {

namespace {

int nameless(const std::string& folder) { return ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); }

// Fills @from with a block, and has @to share it. Bytes of the block; 0: they cannot.
std::uint64_t try_sharing(int from, int to) {
    struct statvfs st {};
    if (from < 0 || to < 0 || ::fstatvfs(to, &st) != 0) return 0;
    const std::vector<char> block(st.f_bsize, 1);
    const file_clone_range first{from, 0, block.size(), 0};
    if (write_all(from, block.data(), block.size(), 0) < block.size() || ::ioctl(to, FICLONERANGE, &first) != 0) return 0;
    return block.size();
}

}  // namespace

std::uint64_t can_share_blocks(const std::string& folder, const std::string& other) {
    const int from = nameless(folder), to = from < 0 ? -1 : nameless(other);
    const std::uint64_t block = try_sharing(from, to);
    const int why = errno;
    for (const int fd : {from, to})
        if (fd >= 0) ::close(fd);
    if (!block && (why == ENOSPC || why == EDQUOT)) throw_not_written(escaped(from < 0 ? folder : other), "make a file", why);
    return block;
}

namespace {

bool shares_blocks(int fd) {
    static constexpr std::uint32_t at_once = 512;
    std::vector<std::uint64_t> buffer((sizeof(fiemap) + at_once * sizeof(fiemap_extent)) / sizeof(std::uint64_t));
    auto* map = reinterpret_cast<fiemap*>(buffer.data());
    for (std::uint64_t at = 0;;) {
        *map = {};
        map->fm_start = at;
        map->fm_length = FIEMAP_MAX_OFFSET - at;
        map->fm_extent_count = at_once;
        if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) return true;
        if (map->fm_mapped_extents == 0) return false;
        for (std::uint32_t i = 0; i < map->fm_mapped_extents; i++) {
            const fiemap_extent& e = map->fm_extents[i];
            if (e.fe_flags & FIEMAP_EXTENT_SHARED) return true;
            if (e.fe_flags & FIEMAP_EXTENT_LAST) return false;
            at = e.fe_logical + e.fe_length;
        }
    }
}

// XFS frees the blocks of a file that is gone a little later, earlier if it is asked for its free space.
bool stops_sharing(int fd) {
    for (int i = 0; shares_blocks(fd); i++) {
        if (i == 200) return false;
        struct statvfs st {};
        (void)::fstatvfs(fd, &st);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

}  // namespace

void forget_shared(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    struct stat st {};
    // Of blocks that are shared it would make copies.
    if (::fstat(fd, &st) == 0 && stops_sharing(fd)) {
        // XFS does it only for a file without dirty pages, and a sync of the file alone does not note that there are none.
        ::syncfs(fd);
        (void)!::fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, st.st_size);
        ::fsync(fd);
    }
    ::close(fd);
}

}  // namespace dmchain
