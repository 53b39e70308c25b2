// SPDX-License-Identifier: GPL-2.0-or-later
// See check.hpp.
#include "qcow2/check.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "io/text.hpp"
#include "qcow2/inflate.hpp"
#include "qcow2/refcounts.hpp"

namespace dmchain::qcow2 {
namespace {

constexpr std::uint64_t min_piece = std::uint64_t{1} << 30;  // of the virtual disk, between calls of progress

// A set of clusters of a file; its memory follows what is in it, not the size of a sparse file.
class ClusterSet {
public:
    // Returns whether @cluster was in the set already.
    bool insert(std::uint64_t cluster) {
        std::uint64_t& word = page(cluster / page_bits)[cluster % page_bits / 64];
        std::uint64_t bit = std::uint64_t{1} << (cluster % 64);
        bool was = word & bit;
        word |= bit;
        return was;
    }
    bool has(std::uint64_t cluster) const {
        auto p = pages_.find(cluster / page_bits);
        return p != pages_.end() && (*p->second)[cluster % page_bits / 64] >> (cluster % 64) & 1;
    }

private:
    static constexpr std::uint64_t page_bits = 32768;
    using Page = std::array<std::uint64_t, page_bits / 64>;
    Page& page(std::uint64_t number) {
        if (last_ && last_number_ == number) return *last_;
        std::unique_ptr<Page>& p = pages_[number];
        if (!p) p = std::make_unique<Page>();
        last_ = p.get();
        last_number_ = number;
        return *last_;
    }
    std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
    Page* last_ = nullptr;
    std::uint64_t last_number_ = 0;
};

class LayerCheck {
public:
    LayerCheck(const Image& image, Faults& faults)
        : image_(image),
          h_(image.header()),
          name_(escaped(image.file().path())),
          scratch_(Faults::Mode::collect),
          faults_(faults) {}

    // Returns the number of leaked clusters.
    std::uint64_t run(FunctionRef<void(std::uint64_t)> progress) {
        const std::uint64_t size = image_.virtual_size();
        // At least an L2 table's worth, so that a disk of exabytes takes no more turns than its L1 table has entries.
        const std::uint64_t piece = std::max(min_piece, h_.l2_span());
        for (std::uint64_t at = 0; at < size; at += piece) {
            const std::uint64_t end = std::min(size, at + piece);
            image_.map(at, end, scratch_, [this](const Extent& e) { extent(e); });
            progress(end - at);
        }
        faults_.take(std::move(scratch_.faults));
        if (h_.dirty() || image_.log()) return 0;
        return check_refcounts(
            image_, [this](std::uint64_t c) { return twice_.has(c); }, faults_);
    }

private:
    void extent(const Extent& e) {
        if (e.kind == Kind::compressed) {
            for (std::uint64_t c = e.host >> h_.cluster_bits; c <= (e.host + e.host_bytes - 1) >> h_.cluster_bits; c++) {
                compressed_.insert(c);
                if (data_.has(c)) twice(e.guest, c);
            }
            inflate(e);
        } else if (e.kind == Kind::data && !image_.data_file()) {
            for (std::uint64_t at = 0; at < e.bytes; at += h_.cluster_size() - ((e.host + at) & (h_.cluster_size() - 1))) {
                std::uint64_t c = (e.host + at) >> h_.cluster_bits;
                std::uint64_t guest = (e.guest + at) >> h_.cluster_bits;
                // With subclusters one cluster may come in several extents.
                if (guest == last_guest_ && c == last_host_) continue;
                last_guest_ = guest;
                last_host_ = c;
                if (data_.insert(c) || compressed_.has(c)) twice(e.guest + at, c);
            }
        }
    }

    void twice(std::uint64_t guest, std::uint64_t cluster) {
        twice_.insert(cluster);
        faults_.add({"disk offset", guest, guest + h_.cluster_size()},
                    "{}: cluster at {:#x} is used for disk offset {:#x} and for another, expected one use", name_,
                    cluster << h_.cluster_bits, guest);
    }

    void inflate(const Extent& e) {
        stream_.resize(e.host_bytes);
        out_.resize(h_.cluster_size());
        image_.file().read(stream_.data(), stream_.size(), e.host);
        if (!inflate_cluster(h_.compression, stream_.data(), stream_.size(), out_.data(), out_.size()))
            faults_.add(
                {"disk offset", e.guest, e.guest + e.bytes},
                "{}: compressed cluster at {:#x} for disk offset {:#x} cannot be inflated, expected a {} stream of {} bytes",
                name_, e.host, e.guest & ~(h_.cluster_size() - 1), name_of(h_.compression), h_.cluster_size());
    }

    const Image& image_;
    const Header& h_;
    const std::string name_;
    Scratch scratch_;
    Faults& faults_;
    ClusterSet data_;
    ClusterSet compressed_;
    ClusterSet twice_;
    std::uint64_t last_guest_ = ~std::uint64_t{0};
    std::uint64_t last_host_ = ~std::uint64_t{0};
    std::vector<unsigned char> stream_;
    std::vector<unsigned char> out_;
};

}  // namespace

std::uint64_t check_layer(const Layer& layer, Faults& faults, FunctionRef<void(std::uint64_t)> progress) {
    if (layer.image()) return LayerCheck(*layer.image(), faults).run(progress);
    progress(layer.virtual_size());
    return 0;
}

}  // namespace dmchain::qcow2
