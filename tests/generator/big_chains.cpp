// SPDX-License-Identifier: GPL-2.0-or-later
// Chains that are big in depth or size, written as fast as the disk takes them: the layout of each
// image is worked out beforehand, and everything that is zero stays a hole in the file.
#include <atomic>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

#include "chains.hpp"
#include "file.hpp"
#include "plain_image.hpp"

namespace gen {

namespace {

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
void write_layers(const std::string& out, const std::string& raw, const std::vector<std::vector<Piece>>& pieces, u64 seed,
                  u64 size, unsigned cluster_bits, const std::string& from) {
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

void deep_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size, unsigned cluster_bits,
                const std::string& from) {
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

void sparse_chain(const std::string& out, const std::string& raw, u64 seed, unsigned depth, u64 size, unsigned cluster_bits,
                  u64 count) {
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
