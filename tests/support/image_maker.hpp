// SPDX-License-Identifier: GPL-2.0-or-later
// For tests and the fuzzer's corpus: a small good qcow2 image as bytes, laid out at fixed clusters so
// that a test can damage a field by its offset. Written from the format's text, not through tools/qcow2.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace dmchain::test {

struct MakerOptions {
    unsigned version = 3;
    unsigned cluster_bits = 12;
    bool extended_l2 = false;
    std::string backing{};
    std::string backing_format{};
    std::string data_file{};
    unsigned clusters = 16;  // of the virtual disk
    bool data_file_raw = false;
    bool snapshot = false;  // one internal snapshot "old" (id 1) whose L2 table is the active one
};

// Clusters of the file: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5 to 7 data, 8 compressed
// data; with a snapshot 9 its table, 10 its L1. The disk's clusters: 0 -> 5, 1 -> 6, 2 zero, 3 nothing,
// 4 compressed (zlib; every byte 'c'), 5 -> 7 (with extended L2: its first half, then 8 zero subclusters),
// then nothing. With a data file, 0 and 1 and 5 are in it at their own offset, and 4 is nothing; clusters 5 to 8
// of the file are free. Data cluster n is filled with the digit n.
class Maker {
public:
    explicit Maker(const MakerOptions& o = {}) : o_(o), cluster(std::uint64_t{1} << o.cluster_bits) {
        bytes.assign((o.snapshot ? 11 : 9) * cluster, '\0');
        header();
        tables();
    }

    void put(std::uint64_t at, std::uint64_t value, unsigned n) {
        if (at + n > bytes.size()) throw std::runtime_error("Maker::put outside the image");
        for (unsigned i = 0; i < n; i++) bytes[at + i] = static_cast<char>(value >> (8 * (n - 1 - i)));
    }
    void put16(std::uint64_t at, std::uint64_t v) { put(at, v, 2); }
    void put32(std::uint64_t at, std::uint64_t v) { put(at, v, 4); }
    void put64(std::uint64_t at, std::uint64_t v) { put(at, v, 8); }
    void put_text(std::uint64_t at, const std::string& text) { bytes.replace(at, text.size(), text); }
    std::uint64_t get64(std::uint64_t at) const {
        std::uint64_t v = 0;
        for (unsigned i = 0; i < 8; i++) v = v << 8 | static_cast<unsigned char>(bytes[at + i]);
        return v;
    }

    std::uint64_t refcount_table() const { return cluster; }
    std::uint64_t refcount_block() const { return 2 * cluster; }
    std::uint64_t l1() const { return 3 * cluster; }
    std::uint64_t l2() const { return 4 * cluster; }
    std::uint64_t l2_entry(unsigned i) const { return l2() + i * (o_.extended_l2 ? 16 : 8); }
    std::uint64_t data(unsigned n) const { return (5 + n) * cluster; }
    std::uint64_t compressed() const { return 8 * cluster; }
    std::uint64_t snapshots() const { return 9 * cluster; }
    // A header extension at the place where they begin; what was there is overwritten.
    void put_extension(std::uint32_t type, const std::string& value, std::optional<std::uint32_t> length = {}) {
        put32(extensions_, type);
        put32(extensions_ + 4, length.value_or(static_cast<std::uint32_t>(value.size())));
        put_text(extensions_ + 8, value);
        extensions_ += 8 + (value.size() + 7) / 8 * 8;
    }

    MakerOptions o_;
    std::string bytes;
    const std::uint64_t cluster;

private:
    static constexpr std::uint64_t copied = std::uint64_t{1} << 63;

    void header() {
        put_text(0, "QFI\xfb");
        put32(4, o_.version);
        put32(20, o_.cluster_bits);
        put64(24, o_.clusters * cluster);
        put32(36, 1);
        put64(40, l1());
        put64(48, refcount_table());
        put32(56, 1);
        extensions_ = 72;
        if (o_.version == 3) {
            put64(72, (o_.data_file.empty() ? 0u : 4u) | (o_.extended_l2 ? 16u : 0u));
            put64(88, o_.data_file_raw ? 2 : 0);
            put32(96, 4);
            put32(100, 104);
            extensions_ = 104;
        }
        if (!o_.backing_format.empty()) put_extension(0xe2792aca, o_.backing_format);
        if (!o_.data_file.empty()) put_extension(0x44415441, o_.data_file);
        if (!o_.backing.empty()) {
            std::uint64_t at = cluster - 1024;
            put_text(at, o_.backing);
            put64(8, at);
            put32(16, o_.backing.size());
        }
    }

    void tables() {
        put64(refcount_table(), refcount_block());
        for (std::uint64_t i = 0; i < bytes.size() / cluster; i++) put16(refcount_block() + 2 * i, 1);
        if (!o_.data_file.empty())
            for (unsigned c : {5u, 6u, 7u, 8u}) put16(refcount_block() + 2 * c, 0);
        put64(l1(), l2() | copied);
        for (unsigned n = 0; n < 3; n++) bytes.replace(data(n), cluster, cluster, static_cast<char>('0' + n));
        const bool outside = !o_.data_file.empty();
        entry(0, (outside ? 0 : data(0)) | copied, 0xffffffff);
        entry(1, (outside ? cluster : data(1)) | copied, 0xffffffff);
        if (o_.version == 3) entry(2, o_.extended_l2 ? 0 : 1, o_.extended_l2 ? 0xffffffff00000000 : 0);
        if (!outside) {
            std::uint64_t n = compress();
            std::uint64_t sectors = (n + 511) / 512 - 1;
            entry(4, std::uint64_t{1} << 62 | sectors << (62 - (o_.cluster_bits - 8)) | compressed(), 0);
        }
        entry(5, (outside ? 5 * cluster : data(2)) | copied, 0x00ff00000000ffff);
        if (o_.snapshot) snapshot();
    }

    void entry(unsigned i, std::uint64_t value, std::uint64_t bitmap) {
        put64(l2_entry(i), value);
        if (o_.extended_l2) put64(l2_entry(i) + 8, bitmap);
    }

    std::uint64_t compress() {
        std::string plain(cluster, 'c');
        z_stream z{};
        if (deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK) throw std::runtime_error("deflateInit2");
        z.next_in = reinterpret_cast<Bytef*>(plain.data());
        z.avail_in = static_cast<uInt>(plain.size());
        z.next_out = reinterpret_cast<Bytef*>(bytes.data() + compressed());
        z.avail_out = static_cast<uInt>(cluster);
        if (deflate(&z, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("deflate");
        std::uint64_t n = cluster - z.avail_out;
        deflateEnd(&z);
        return n;
    }

    void snapshot() {
        put32(60, 1);
        put64(64, snapshots());
        const std::uint64_t at = snapshots();
        put64(at, 10 * cluster);
        put32(at + 8, 1);
        put16(at + 12, 1);
        put16(at + 14, 3);
        put32(at + 36, 16);
        put64(at + 48, o_.clusters * cluster);
        put_text(at + 56, "1old");
        put64(10 * cluster, l2());
        // Shared with the snapshot: refcount 2, and the active entries are not "copied".
        put64(l1(), l2());
        for (unsigned c : {4u, 5u, 6u, 7u, 8u}) put16(refcount_block() + 2 * c, 2);
        for (unsigned i : {0u, 1u, 5u}) put64(l2_entry(i), get64(l2_entry(i)) & ~copied);
    }

    std::uint64_t extensions_ = 0;
};

}  // namespace dmchain::test
