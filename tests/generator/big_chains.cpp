// SPDX-License-Identifier: GPL-2.0-or-later
// Chains that are big in depth or size, written as fast as the disk takes them: the layout of each
// image is worked out beforehand, and everything that is zero stays a hole in the file.
#include <atomic>
#include <filesystem>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

#include "chains.hpp"
#include "file.hpp"

namespace gen {

namespace fs = std::filesystem;

namespace {

void put32(std::vector<u8>& to, std::size_t at, u32 v) {
    for (unsigned i = 0; i < 4; i++) to[at + i] = static_cast<u8>(v >> (24 - 8 * i));
}

void put64(std::vector<u8>& to, std::size_t at, u64 v) {
    put32(to, at, static_cast<u32>(v >> 32));
    put32(to, at + 4, static_cast<u32>(v));
}

constexpr u64 copied = u64{1} << 63;

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
        put64(l2_, n % per_table * 8, host | copied);
        return host;
    }

    File& file() { return file_; }

    void finish() {
        write_l2();
        std::vector<u8> l1(l1_.size() * 8);
        for (std::size_t i = 0; i < l1_.size(); i++) put64(l1, i * 8, l1_[i] ? l1_[i] | copied : 0);
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

std::string layer_name(unsigned layer, unsigned depth) {
    return layer + 1 == depth ? "top.qcow2" : "layer-" + std::to_string(layer) + ".qcow2";
}

// Runs work(0 .. count-1) on all processors; the first failure is passed on.
template <typename Work>
void in_parallel(unsigned count, const Work& work) {
    std::atomic<unsigned> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); t++) {
        threads.emplace_back([&] {
            try {
                for (unsigned n; (n = next++) < count;) work(n);
            } catch (...) {
                const std::lock_guard hold(lock);
                failure = std::current_exception();
            }
        });
    }
    for (auto& t : threads) t.join();
    if (failure) std::rethrow_exception(failure);
}

struct Piece {
    u64 cluster;
    bool newest;  // what the disk reads as
};

// Writes the layers of a chain; layer n has the clusters `pieces[n]`, in rising order.
void write_layers(const std::string& out, const std::string& raw, const std::vector<std::vector<Piece>>& pieces,
                  u64 seed, u64 size, unsigned cluster_bits, const std::string& from) {
    const unsigned depth = static_cast<unsigned>(pieces.size());
    const u64 bytes = u64{1} << cluster_bits;
    std::unique_ptr<File> copy, source;
    if (!raw.empty()) {
        copy = std::make_unique<File>(raw);
        copy->resize(size);
    }
    if (!from.empty()) source = std::make_unique<File>(from, O_RDONLY);
    in_parallel(depth, [&](unsigned n) {
        PlainImage image(out + "/" + layer_name(n, depth), size, cluster_bits, n ? layer_name(n - 1, depth) : "");
        std::vector<u8> data(bytes);
        for (const Piece& p : pieces[n]) {
            const u64 guest = p.cluster * bytes;
            if (source && p.newest)
                source->read(guest, data);
            else
                fill_random(data, seed ^ (guest << 13) ^ n);
            image.file().write(image.add(p.cluster), data);
            if (copy && p.newest) copy->write(guest, std::span(data).first(std::min(bytes, size - guest)));
        }
        image.finish();
    });
    u64 stored = 0;
    for (const auto& layer : pieces) stored += layer.size();
    std::cout << out << "/top.qcow2: " << depth << " layers, " << size << " bytes, " << stored << " clusters of " << bytes
              << " bytes\n";
}

bool all_zero(std::span<const u8> data) {
    return data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

}  // namespace

void deep_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size,
                unsigned cluster_bits, const std::string& from) {
    Prng random(seed);
    const u64 bytes = u64{1} << cluster_bits;
    std::vector<std::vector<Piece>> pieces(depth);
    std::unique_ptr<File> source;
    std::vector<u8> data(bytes);
    if (!from.empty()) {
        source = std::make_unique<File>(from, O_RDONLY);
        size = (source->size() + 511) / 512 * 512;
    }
    for (u64 c = 0; c < (size + bytes - 1) / bytes; c++) {
        if (source && (!source->read(c * bytes, data) || all_zero(data))) continue;
        const u64 layer = random.below(depth);
        // What a guest wrote more than once is in lower layers too, as it was then.
        if (source && layer > 0 && random.chance(25)) pieces[random.below(layer)].push_back({c, false});
        pieces[layer].push_back({c, true});
    }
    write_layers(out, raw, pieces, seed, size, cluster_bits, from);
}

void sparse_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size,
                  unsigned cluster_bits, u64 count) {
    Prng random(seed);
    const u64 clusters = (size + (u64{1} << cluster_bits) - 1) >> cluster_bits;
    std::map<u64, u64> newest;  // cluster -> layer; the last one that got it
    std::set<std::pair<u64, u64>> all;
    for (u64 i = 0; i < count; i++) {
        // A few neighbours at a time, and the disk's first and last clusters among them.
        u64 at = i == 0 ? 0 : i == 1 ? clusters - 1 : random.below(clusters);
        for (u64 run = random.chance(20) ? random.between(2, 20) : 1; run && at < clusters; run--, at++) {
            const u64 layer = random.below(depth);
            all.insert({layer, at});
            auto [place, fresh] = newest.insert({at, layer});
            if (!fresh) place->second = std::max(place->second, layer);
        }
    }
    std::vector<std::vector<Piece>> pieces(depth);
    for (const auto& [layer, cluster] : all) pieces[layer].push_back({cluster, newest.at(cluster) == layer});
    write_layers(out, raw, pieces, seed, size, cluster_bits, "");
}

void in_order_image(const std::string& out, u64 size, unsigned cluster_bits) {
    PlainImage image(out + "/top.qcow2", size, cluster_bits, "");
    const u64 clusters = (size + (u64{1} << cluster_bits) - 1) >> cluster_bits;
    for (u64 c = 0; c < clusters; c++) image.add(c);
    image.finish();
    std::cout << out << "/top.qcow2: " << size << " bytes, " << clusters << " clusters, all allocated in order\n";
}

}  // namespace gen
