// SPDX-License-Identifier: GPL-2.0-or-later
// See export.hpp.
#include "chain/export.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>
#include <cstring>
#include <vector>

#include "chain/compressed.hpp"
#include "chain/copier.hpp"
#include "chain/merge.hpp"
#include "chain/output.hpp"
#include "chain/temporary.hpp"
#include "io/no_room.hpp"
#include "io/text.hpp"
#include "io/zeroes.hpp"
#include "io/unfinished.hpp"
#include "io/writable.hpp"
#include "io/write_all.hpp"

namespace dmchain::chain {

namespace {

void put(int fd, const void* data, std::size_t bytes) {
    if (write_all(fd, data, bytes) < bytes) throw_not_written("standard output", "write", errno);
}

void stream(const qcow2::Chain& chain, const Points& points, StreamInfo info, const ExportHow& how, StreamWriter::Put to) {
    info.base_bytes = bytes_from(chain, points);
    info.bytes = bytes_to(chain, points);
    info.data_bytes = data_bytes(chain, points);
    StreamWriter writer(info, std::move(to));
    copy_parts(chain, points, {how.readers, true}, [&](const Piece& p) {
        if (p.data && how.progress) how.progress(p.bytes);
        // The holes of a raw base are data of which only reading shows that they are zero.
        if (p.data && !is_zero(p.data, p.bytes)) {
            writer.data(p.start, p.data, p.bytes);
        } else if (p.start < info.bytes) {
            // What is past the end goes with the size.
            writer.zero(p.start, std::min(p.bytes, info.bytes - p.start));
        }
    });
    writer.end();
}

}  // namespace

std::uint64_t data_bytes(const qcow2::Chain& chain, const Points& points) {
    std::uint64_t sum = 0;
    diff(chain, points, [&](const Part& p) { sum += p.zero ? 0 : p.bytes; });
    return sum;
}

bool require_free(const std::string& path, bool replace) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) {
        if (errno == ENOENT) return false;
        throw failed("{}: cannot stat: {}", escaped(path), std::strerror(errno));
    }
    if (S_ISBLK(st.st_mode))
        throw failed(
            "{}: is a block device, expected a file: write to it with 'dmchain export ... --since none - | dmchain import - {}'",
            escaped(path), escaped(path));
    if (!S_ISREG(st.st_mode)) throw failed("{}: is there, and no regular file: name another one", escaped(path));
    if (st.st_size && !replace)
        throw failed("{}: is there already: remove it, name another one, or use --overwrite", escaped(path));
    return true;
}

void export_raw(const qcow2::Chain& chain, std::size_t point, const std::string& path, const ExportHow& how) {
    const bool replace = require_free(path, how.replace);
    Output out(path);
    const Points points{{}, point};
    {
        Writable to = out.writable();
        const std::function<void(std::uint64_t)> progress = how.so_far();
        Copier copier(chain, to, {.readers = how.readers, .read_all = true, .grain = 4096, .sparse = true}, progress);
        constexpr std::uint64_t piece = 64u << 10;
        diff(chain, points, [&](const Part& p) {
            for (std::uint64_t at = 0; at < p.bytes && !p.zero; at += piece) {
                copier.read(p.start + at, p.start + at, std::min(piece, p.bytes - at));
                (void)copier.take_zeroes();  // are holes
            }
        });
        copier.flush();
    }
    out.resize(bytes_to(chain, points));
    out.commit(replace);
}

void export_raw(const qcow2::Chain& chain, std::size_t point, int fd, const ExportHow& how) {
    const std::vector<unsigned char> zeroes(copy_bytes);
    // Without a point to compare with the parts are all of the disk.
    copy_parts(chain, {{}, point}, {how.readers, true}, [&](const Piece& p) {
        if (p.data) {
            put(fd, p.data, p.bytes);
            if (how.progress) how.progress(p.bytes);
            return;
        }
        for (std::uint64_t left = p.bytes, n; left; left -= n) put(fd, zeroes.data(), n = std::min(left, copy_bytes));
    });
}

void export_qcow2(const qcow2::Chain& chain, const std::string& path, bool compress, const ExportHow& how) {
    const bool replace = require_free(path, how.replace);
    MergeTo to{temporary_name(path)};
    to.flat = true;
    to.readers = how.readers;
    const Unfinished unfinished(to.path);
    try {
        if (compress)
            merge_compressed(chain, to, how.so_far());
        else
            merge(chain, measure(chain, true), to, how.so_far());
        if (::renameat2(AT_FDCWD, to.path.c_str(), AT_FDCWD, path.c_str(), replace ? 0 : RENAME_NOREPLACE) != 0)
            throw_not_written(escaped(to.path), fmt::format("rename to {}", escaped(path)), errno);
    } catch (...) {
        ::unlink(to.path.c_str());
        throw;
    }
    sync_folder_of(path);
}

void export_stream(const qcow2::Chain& chain, const Points& points, StreamInfo info, const std::string& path,
                   const ExportHow& how) {
    const bool replace = require_free(path, how.replace);
    Output out(path);
    std::uint64_t at = 0;
    stream(chain, points, info, how, [&](const void* data, std::size_t bytes) {
        out.write(data, bytes, at);
        at += bytes;
    });
    out.commit(replace);
}

void export_stream(const qcow2::Chain& chain, const Points& points, StreamInfo info, int fd, const ExportHow& how) {
    stream(chain, points, info, how, [fd](const void* data, std::size_t bytes) { put(fd, data, bytes); });
}

}  // namespace dmchain::chain
