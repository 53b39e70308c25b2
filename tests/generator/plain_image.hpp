// SPDX-License-Identifier: GPL-2.0-or-later
// A qcow2 image in its plainest form, written front to back: for chains whose odd thing is their depth or
// size. Everything that is zero stays a hole in the file.
#pragma once

#include <string>
#include <vector>

#include "file.hpp"

namespace gen {

inline void put32(std::vector<u8>& to, std::size_t at, u32 v) {
    for (unsigned i = 0; i < 4; i++) to[at + i] = static_cast<u8>(v >> (24 - 8 * i));
}

inline void put64(std::vector<u8>& to, std::size_t at, u64 v) {
    put32(to, at, static_cast<u32>(v >> 32));
    put32(to, at + 4, static_cast<u32>(v));
}

// A version 3 image with 16-bit refcounts in which every host cluster is used once. Clusters are
// given in rising guest order; each gets the next host cluster, each L2 table the one before its data.
class PlainImage {
public:
    PlainImage(const std::string& path, u64 size, unsigned cluster_bits, const std::string& backing)
        : file_(path), size_(size), bits_(cluster_bits), bytes_(u64{1} << cluster_bits), backing_(backing) {
        const u64 per_table = bytes_ / 8;
        l1_.resize(((size + bytes_ - 1) / bytes_ + per_table - 1) / per_table);
        next_ = 1 + (l1_.size() * 8 + bytes_ - 1) / bytes_;  // header, L1 table
    }

    // Place of guest cluster n, in bytes, whose data the caller writes.
    u64 add(u64 n) {
        const u64 per_table = bytes_ / 8, index = n / per_table;
        if (l2_host_ == 0 || index != l2_index_) {
            write_l2();
            l2_index_ = index;
            l2_host_ = next_++ * bytes_;
            l2_.assign(bytes_, 0);
            l1_[index] = l2_host_;
        }
        const u64 host = next_++ * bytes_;
        put64(l2_, n % per_table * 8, host | copied_flag);
        return host;
    }

    File& file() { return file_; }

    void finish() {
        write_l2();
        std::vector<u8> l1(l1_.size() * 8);
        for (std::size_t i = 0; i < l1_.size(); i++) put64(l1, i * 8, l1_[i] ? l1_[i] | copied_flag : 0);
        file_.write_sparse(bytes_, l1);

        // The refcount table and its blocks lie at the end and count themselves.
        const u64 per_block = bytes_ / 2;
        u64 blocks = 0, table = 0;
        for (;;) {
            const u64 all = next_ + blocks + table;
            const u64 b = (all + per_block - 1) / per_block, t = (b * 8 + bytes_ - 1) / bytes_;
            if (b == blocks && t == table) break;
            blocks = b;
            table = t;
        }
        const u64 all = next_ + blocks + table;
        std::vector<u8> words(blocks * 8);
        std::vector<u8> block(bytes_);
        for (u64 i = 0; i < blocks; i++) {
            const u64 host = (next_ + table + i) * bytes_;
            put64(words, i * 8, host);
            const u64 used = std::min(per_block, all - i * per_block);
            std::fill(block.begin(), block.end(), u8{0});
            for (u64 k = 0; k < used; k++) block[k * 2 + 1] = 1;
            file_.write_sparse(host, block);
        }
        file_.write(next_ * bytes_, words);

        std::vector<u8> h(104);
        put32(h, 0, 0x514649fb);
        put32(h, 4, 3);
        put32(h, 20, bits_);
        put64(h, 24, size_);
        put32(h, 36, static_cast<u32>(l1_.size()));
        put64(h, 40, bytes_);
        put64(h, 48, next_ * bytes_);
        put32(h, 56, static_cast<u32>(table));
        put32(h, 96, 4);
        put32(h, 100, 104);
        if (!backing_.empty()) {
            h.resize(104 + 16);
            put32(h, 104, 0xe2792aca);
            put32(h, 108, 5);
            std::memcpy(&h[112], "qcow2", 5);
        }
        h.resize(h.size() + 8);  // end of the header extensions
        put64(h, 8, backing_.empty() ? 0 : h.size());
        put32(h, 16, static_cast<u32>(backing_.size()));
        h.insert(h.end(), backing_.begin(), backing_.end());
        file_.write(0, h);
        file_.resize(all * bytes_);
    }

private:
    static constexpr u64 copied_flag = u64{1} << 63;

    void write_l2() {
        if (l2_host_) file_.write_sparse(l2_host_, l2_);
    }

    File file_;
    u64 size_;
    unsigned bits_;
    u64 bytes_;
    std::string backing_;
    std::vector<u64> l1_;
    std::vector<u8> l2_;
    u64 l2_index_ = 0, l2_host_ = 0;
    u64 next_ = 0;
};

inline std::string layer_name(unsigned layer, unsigned depth) {
    return layer + 1 == depth ? "top.qcow2" : "layer-" + std::to_string(layer) + ".qcow2";
}

}  // namespace gen
