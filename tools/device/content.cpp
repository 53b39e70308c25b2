// SPDX-License-Identifier: GPL-2.0-or-later
// See content.hpp. libblkid reads a file descriptor, so it is given a sparse file in memory that has
// the parts of the disk where signatures lie: both ends of the disk and of each partition.
#include "device/content.hpp"

#include <blkid/blkid.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

#include "io/error.hpp"
#include "io/write_all.hpp"

namespace dmchain::device {
namespace {

// Signatures lie within the first MiB or so (ZFS labels: 512 KiB at both ends) and at the very end.
constexpr std::uint64_t head_bytes = 2u << 20;
constexpr std::uint64_t tail_bytes = 1u << 20;
// Logical partitions are a linked list on the disk: each turn shows the next.
constexpr int max_turns = 64;
constexpr int max_partitions = 128;

struct Fd {
    int fd;
    ~Fd() { ::close(fd); }
};

using Probe = std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)>;

class Finder {
public:
    Finder(qcow2::Reader& reader, std::uint64_t size, std::vector<std::string>& problems)
        : reader_(reader), size_(size), problems_(problems), copy_{::memfd_create("dmchain-content", MFD_CLOEXEC)} {
        if (copy_.fd < 0 || ::ftruncate(copy_.fd, static_cast<off_t>(size)) != 0)
            throw failed("cannot make a file in memory of {} bytes to look at the disk: {}", size, std::strerror(errno));
    }

    std::vector<Content> find() {
        std::vector<Content> out;
        bring(0, size_);
        std::size_t partitions = 0;
        for (int turn = 0; turn < max_turns; turn++) {
            out = probe_disk();
            for (const Content& c : out) bring(c.offset, c.bytes);
            if (out.size() == partitions) break;
            partitions = out.size();
        }
        for (Content& c : out)
            if (c.partition != 0 && c.bytes != 0) probe(c);
        return out;
    }

private:
    void bring(std::uint64_t offset, std::uint64_t bytes) {
        if (offset >= size_) return;
        bytes = std::min(bytes, size_ - offset);
        std::uint64_t head = std::min(bytes, head_bytes);
        bring_range(offset, head);
        if (bytes > head) {
            std::uint64_t tail = std::min(bytes - head, tail_bytes);
            bring_range(offset + bytes - tail, tail);
        }
    }

    void bring_range(std::uint64_t offset, std::uint64_t bytes) {
        if (!done_.insert({offset, bytes}).second) return;
        std::vector<char> buffer(64u << 10);
        for (std::uint64_t at = offset; at < offset + bytes; at += buffer.size()) {
            std::size_t n = std::min<std::uint64_t>(buffer.size(), offset + bytes - at);
            try {
                reader_.read(buffer.data(), n, at);
            } catch (const Error& e) {
                problems_.emplace_back(e.what());
                return;
            }
            if (std::all_of(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n), [](char c) { return c == 0; }))
                continue;
            if (write_all(copy_.fd, buffer.data(), n, at) != n)
                throw failed("cannot write to a file in memory: {}", std::strerror(errno));
        }
    }

    Probe start(std::uint64_t offset, std::uint64_t bytes) const {
        Probe p(blkid_new_probe(), blkid_free_probe);
        if (!p ||
            blkid_probe_set_device(p.get(), copy_.fd, static_cast<blkid_loff_t>(offset), static_cast<blkid_loff_t>(bytes)) != 0)
            throw failed("libblkid cannot look at {} bytes at {:#x} of the disk", bytes, offset);
        blkid_probe_enable_superblocks(p.get(), 1);
        blkid_probe_set_superblocks_flags(p.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
        blkid_probe_enable_partitions(p.get(), 1);
        return p;
    }

    static std::string value(const Probe& p, const char* name) {
        const char* data = nullptr;
        if (blkid_probe_lookup_value(p.get(), name, &data, nullptr) != 0 || !data) return {};
        return data;
    }

    void probe(Content& c) const {
        Probe p = start(c.offset, c.bytes);
        if (blkid_do_safeprobe(p.get()) != 0) return;
        c.type = value(p, "TYPE");
        c.label = value(p, "LABEL");
        c.uuid = value(p, "UUID");
    }

    std::vector<Content> probe_disk() const {
        std::vector<Content> out;
        if (size_ == 0) return out;
        Probe p = start(0, size_);
        Content disk;
        disk.bytes = size_;
        if (blkid_do_safeprobe(p.get()) == 0) {
            disk.type = value(p, "TYPE");
            disk.label = value(p, "LABEL");
            disk.uuid = value(p, "UUID");
            disk.table = value(p, "PTTYPE");
            if (disk.uuid.empty()) disk.uuid = value(p, "PTUUID");
            out.push_back(disk);
        }
        blkid_partlist list = blkid_probe_get_partitions(p.get());
        int n = list ? std::min(blkid_partlist_numof_partitions(list), max_partitions) : 0;
        for (int i = 0; i < n; i++) {
            blkid_partition part = blkid_partlist_get_partition(list, i);
            Content c;
            c.partition = blkid_partition_get_partno(part);
            c.offset = static_cast<std::uint64_t>(blkid_partition_get_start(part)) * 512;
            c.bytes = static_cast<std::uint64_t>(blkid_partition_get_size(part)) * 512;
            if (c.offset >= size_) continue;
            c.bytes = std::min(c.bytes, size_ - c.offset);
            if (const char* name = blkid_partition_get_name(part)) c.part_name = name;
            out.push_back(c);
        }
        return out;
    }

    qcow2::Reader& reader_;
    const std::uint64_t size_;
    std::vector<std::string>& problems_;
    Fd copy_;
    std::set<std::pair<std::uint64_t, std::uint64_t>> done_;
};

}  // namespace

std::vector<Content> find_content(qcow2::Reader& reader, std::uint64_t size, std::vector<std::string>& problems) {
    return Finder(reader, size, problems).find();
}

}  // namespace dmchain::device
