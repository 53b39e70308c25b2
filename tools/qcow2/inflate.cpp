// SPDX-License-Identifier: GPL-2.0-or-later
// See inflate.hpp.
#include "qcow2/inflate.hpp"

#include <zlib.h>
#include <zstd.h>

#include <memory>

namespace dmchain::qcow2 {
namespace {

bool inflate_zlib(const void* stream, std::size_t stream_bytes, void* out, std::size_t out_bytes) {
    z_stream z{};
    // Raw deflate with a window of 4 KiB: qcow2.txt, "Compressed Clusters Descriptor".
    if (inflateInit2(&z, -12) != Z_OK) return false;
    z.next_in = static_cast<Bytef*>(const_cast<void*>(stream));
    z.avail_in = static_cast<uInt>(stream_bytes);
    z.next_out = static_cast<Bytef*>(out);
    z.avail_out = static_cast<uInt>(out_bytes);
    int result = inflate(&z, Z_FINISH);
    bool full = (result == Z_STREAM_END || result == Z_BUF_ERROR) && z.avail_out == 0;
    inflateEnd(&z);
    return full;
}

bool inflate_zstd(const void* stream, std::size_t stream_bytes, void* out, std::size_t out_bytes) {
    std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
    if (!context) return false;
    ZSTD_inBuffer in = {stream, stream_bytes, 0};
    ZSTD_outBuffer to = {out, out_bytes, 0};
    std::size_t left = 1;
    while (to.pos < to.size) {
        std::size_t in_before = in.pos;
        std::size_t out_before = to.pos;
        left = ZSTD_decompressStream(context.get(), &to, &in);
        if (ZSTD_isError(left)) return false;
        if (in.pos == in_before && to.pos == out_before) return false;
    }
    return left == 0;  // the frame ends with the cluster
}

}  // namespace

bool inflate_cluster(Compression compression, const void* stream, std::size_t stream_bytes, void* out, std::size_t out_bytes) {
    return compression == Compression::zlib ? inflate_zlib(stream, stream_bytes, out, out_bytes)
                                            : inflate_zstd(stream, stream_bytes, out, out_bytes);
}

}  // namespace dmchain::qcow2
