// SPDX-License-Identifier: GPL-2.0-or-later
// The pass over the chain. A window's entries are 64 KiB; with one L2 table at a time a thread works in
// its processor's cache, whatever the disk's size. What is kept of a leaf is one slot, 8 bytes.
#include "chain/builder.hpp"

#include <endian.h>
#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "chain/format.hpp"
#include "chain/layers.hpp"
#include "chain/nodes.hpp"
#include "chain/output.hpp"
#include "chain/window.hpp"
#include "io/error.hpp"
#include "io/text.hpp"

namespace dmchain::chain {

namespace {

constexpr unsigned cluster_shift = 16;

class Builder {
public:
    Builder(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options)
        : chain_(chain), options_(options), layers_(chain), out_(path) {
        geometry_.bytes = chain.virtual_size();
        geometry_.cluster_shift = cluster_shift;
        geometry_.subblock_shift = std::min<unsigned>(
            CHAIN_MAX_SUBBLOCK_SHIFT, static_cast<unsigned>(__builtin_ctz(chain.unit())));
        const std::uint64_t most = std::uint64_t{CHAIN_MAX_ROOT} << (2 * CHAIN_FANOUT_SHIFT + cluster_shift);
        if (geometry_.bytes > most)
            throw failed("{}: virtual size {}: at most {} is possible", escaped(chain.top().file().path()),
                         human_size(geometry_.bytes), human_size(most));
        leaf_.resize((geometry_.clusters() + CHAIN_FANOUT - 1) >> CHAIN_FANOUT_SHIFT);
        compressed_ = std::vector<std::atomic<bool>>(layers_.records.size() + 1);
        place_layers();
    }

    BuildResult run() {
        build_leaves();
        const std::uint64_t root = build_upper();
        return finish(root);
    }

private:
    void place_layers() {
        layer_bytes_ = layers_.records.size() * sizeof(chain_layer) + layers_.strings.size();
        next_ = (CHAIN_SUPER_BYTES + layer_bytes_ + 511) & ~std::uint64_t{511};
    }

    // Takes windows until there are none; the first error of any thread ends all.
    void work(std::exception_ptr& error, std::mutex& error_lock, bool reports) {
        try {
            Window window(geometry_);
            qcow2::Scratch scratch;
            std::vector<std::byte> buffer;
            const std::uint64_t windows = (leaf_.size() + Window::leaves - 1) / Window::leaves;
            for (;;) {
                const std::uint64_t w = next_window_.fetch_add(1);
                if (w >= windows || stop_) break;
                window.clear(w * Window::cells);
                fill(window, scratch);
                emit(window, buffer);
                if (reports && options_.progress)
                    options_.progress(std::min(w * Window::cells, geometry_.clusters()), geometry_.clusters());
            }
        } catch (...) {
            stop_ = true;
            const std::lock_guard hold(error_lock);
            if (!error) error = std::current_exception();
        }
    }

    void build_leaves() {
        const std::uint64_t windows = (leaf_.size() + Window::leaves - 1) / Window::leaves;
        unsigned threads = options_.threads ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
        threads = static_cast<unsigned>(std::clamp<std::uint64_t>(windows, 1, threads));
        std::exception_ptr error;
        std::mutex error_lock;
        std::vector<std::thread> others;
        for (unsigned i = 1; i < threads; i++)
            others.emplace_back([&] { work(error, error_lock, false); });
        work(error, error_lock, true);
        for (auto& t : others) t.join();
        if (error) std::rethrow_exception(error);
    }

    void fill(Window& window, qcow2::Scratch& scratch) {
        for (std::size_t i = 0; i < chain_.layers().size(); i++) {
            const qcow2::Layer& layer = *chain_.layers()[i];
            const LayerIds id = layers_.ids[i];
            if (i && layer.virtual_size() < geometry_.bytes) window.cut(layer.virtual_size());
            layer.map(window.begin(), window.end(), scratch, [&](const qcow2::Extent& x) {
                window.apply(x, x.kind == qcow2::Kind::data ? id.data : id.image);
            });
        }
        window.settle();
    }

    void note_compressed(const Window& window, std::uint64_t entry) {
        if (chain_entry_kind(entry) == CHAIN_COMPRESSED) {
            auto& flag = compressed_[le16toh(window.compressed(entry).layer)];
            if (!flag.load(std::memory_order_relaxed)) flag = true;
        } else if (chain_entry_kind(entry) == CHAIN_FINE) {
            for (std::uint32_t i = 0; i < geometry_.subblocks(); i++) note_compressed(window, window.fine(entry)[i]);
        }
    }

    // Writes the leaves of a settled window in one piece.
    void emit(const Window& window, std::vector<std::byte>& buffer) {
        std::vector<std::uint64_t> entries(CHAIN_FANOUT);
        struct Made {
            std::uint64_t leaf;
            std::uint64_t at;
            std::uint32_t bytes;
        };
        std::vector<Made> made;
        std::uint64_t clusters = 0;
        buffer.clear();
        for (std::uint32_t c = 0; c < window.used(); c += CHAIN_FANOUT) {
            const std::uint32_t n = std::min<std::uint32_t>(CHAIN_FANOUT, window.used() - c);
            for (std::uint32_t i = 0; i < CHAIN_FANOUT; i++) {
                entries[i] = i < n ? window.entry(c + i) : chain_entry(CHAIN_HOLE, 0, 0);
                clusters += chain_entry_kind(entries[i]) != CHAIN_HOLE;
                if (chain_entry_kind(entries[i]) > CHAIN_DATA) note_compressed(window, entries[i]);
            }
            const std::uint64_t first = window.first() + c;
            NodeBuilder node(0, first, geometry_.cluster_bytes() >> 9, geometry_, &window);
            const std::uint64_t leaf = first >> CHAIN_FANOUT_SHIFT;
            leaf_[leaf] = node.whole(entries.data(), n);
            if (leaf_[leaf]) continue;
            const std::uint64_t at = buffer.size();
            made.push_back({leaf, at, node.append(entries.data(), CHAIN_FANOUT, buffer)});
        }
        clusters_ += clusters;
        if (made.empty()) return;
        const std::uint64_t at = next_.fetch_add(buffer.size());
        for (const Made& m : made) leaf_[m.leaf] = node_entry(at + m.at, m.bytes);
        nodes_ += made.size();
        out_.write(buffer.data(), buffer.size(), at);
    }

    static std::uint64_t node_entry(std::uint64_t at, std::uint32_t bytes) {
        return chain_entry(CHAIN_NODE, bytes >> 9, at >> 9);
    }

    // One level above @slots: @span children each (all of them for the root), of @sectors sectors each.
    std::vector<std::uint64_t> build_level(unsigned level, const std::vector<std::uint64_t>& slots,
                                           std::size_t span, std::uint64_t sectors) {
        std::vector<std::uint64_t> above;
        std::vector<std::byte> buffer;
        for (std::size_t i = 0; i < slots.size(); i += span) {
            const std::size_t n = std::min(span, slots.size() - i);
            std::vector<std::uint64_t> entries(slots.begin() + static_cast<std::ptrdiff_t>(i),
                                               slots.begin() + static_cast<std::ptrdiff_t>(i + n));
            NodeBuilder node(level, i << chain_level_shift(level), sectors, geometry_, nullptr);
            if (level < CHAIN_LEVELS - 1) {
                entries.resize(CHAIN_FANOUT, chain_entry(CHAIN_HOLE, 0, 0));
                const std::uint64_t whole = node.whole(entries.data(), n);
                above.push_back(whole);
                if (whole) continue;
            } else {
                above.push_back(0);
            }
            buffer.clear();
            const std::uint32_t bytes = node.append(entries.data(), entries.size(), buffer);
            const std::uint64_t at = next_.fetch_add(bytes);
            out_.write(buffer.data(), bytes, at);
            above.back() = node_entry(at, bytes);
            nodes_++;
        }
        return above;
    }

    // The middle nodes and the root; returns the superblock's entry for the root.
    std::uint64_t build_upper() {
        const std::uint64_t sectors = geometry_.cluster_bytes() >> 9;
        const auto middle = build_level(1, leaf_, CHAIN_FANOUT, sectors << CHAIN_FANOUT_SHIFT);
        const std::uint64_t hole = chain_entry(CHAIN_HOLE, 0, 0);
        if (std::all_of(middle.begin(), middle.end(), [&](std::uint64_t e) { return e == hole; })) return hole;
        return build_level(2, middle, middle.size(), sectors << (2 * CHAIN_FANOUT_SHIFT))[0];
    }

    BuildResult finish(std::uint64_t root) {
        for (std::size_t i = 0; i < layers_.records.size(); i++)
            if (compressed_[i + 1]) layers_.records[i].flags |= htole32(CHAIN_LAYER_HAS_COMPRESSED);
        const auto table = layers_.bytes();
        out_.write(table.data(), table.size(), CHAIN_SUPER_BYTES);
        out_.sync();

        chain_super s{};
        std::memcpy(s.magic, CHAIN_MAGIC, sizeof s.magic);
        s.version = htole32(CHAIN_VERSION);
        if (::getrandom(s.uuid, sizeof s.uuid, 0) != sizeof s.uuid) throw failed("no random bytes for the chain's uuid");
        s.sectors = htole64(geometry_.bytes >> 9);
        s.cluster_shift = static_cast<__u8>(geometry_.cluster_shift);
        s.subblock_shift = static_cast<__u8>(geometry_.subblock_shift);
        s.active = htole16(CHAIN_NO_LAYER);
        s.layer_count = htole32(static_cast<std::uint32_t>(layers_.records.size()));
        s.layer_offset = htole64(CHAIN_SUPER_BYTES);
        s.string_bytes = htole32(static_cast<std::uint32_t>(layers_.strings.size()));
        s.layer_crc = htole32(chain_crc32c_more(0, table.data(), table.size()));
        s.root = htole64(root);
        s.file_bytes = htole64(next_);
        s.nodes = htole64(nodes_);
        s.clusters = htole64(clusters_);
        s.crc = htole32(chain_crc32c_more(0, &s, sizeof s));
        out_.write(&s, sizeof s, 0);
        // The layer table may end within a sector; the file ends where the superblock says.
        const char zero = 0;
        if (next_ == ((CHAIN_SUPER_BYTES + layer_bytes_ + 511) & ~std::uint64_t{511}) && next_ > CHAIN_SUPER_BYTES + layer_bytes_)
            out_.write(&zero, 1, next_ - 1);
        out_.commit();
        return {geometry_.bytes >> 9, nodes_, clusters_, next_};
    }

    const qcow2::Chain& chain_;
    const BuildOptions& options_;
    LayerTable layers_;
    Output out_;
    Geometry geometry_{};
    std::uint64_t layer_bytes_ = 0;
    std::vector<std::uint64_t> leaf_;              // slot of each leaf
    std::vector<std::atomic<bool>> compressed_;    // by layer id
    std::atomic<std::uint64_t> next_window_ = 0;
    std::atomic<std::uint64_t> next_ = 0;          // end of the chain file so far, bytes
    std::atomic<std::uint64_t> nodes_ = 0;
    std::atomic<std::uint64_t> clusters_ = 0;
    std::atomic<bool> stop_ = false;
};

}  // namespace

BuildResult build(const qcow2::Chain& chain, const std::string& path, const BuildOptions& options) {
    return Builder(chain, path, options).run();
}

}  // namespace dmchain::chain
