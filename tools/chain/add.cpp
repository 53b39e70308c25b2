// SPDX-License-Identifier: GPL-2.0-or-later
// See add.hpp.
#include "chain/add.hpp"

#include <bit>

#include "chain/copier.hpp"
#include "chain/point_id.hpp"
#include "chain/walk.hpp"
#include "io/no_room.hpp"
#include "qcow2/adder.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t cluster_bytes = std::uint64_t{1} << index_cluster_bits;
constexpr std::uint64_t durable_bytes = 256u << 20;  // of data, after which one that is cut off can go on

// The zeroes of a cluster: calls @use(guest, bytes).
template <typename Use>
void each_zero(const Walk& walk, const Cluster& c, const Use& use) {
    const std::uint64_t unit = std::uint64_t{1} << walk.unit_bits();
    for (std::uint32_t i = 0, n; i < cluster_bytes / unit; i += n) {
        n = 1;
        if (!(c.zero >> i & 1)) continue;
        while (i + n < cluster_bytes / unit && c.zero >> (i + n) & 1) n++;
        use((c.number << index_cluster_bits) + i * unit, n * unit);
    }
}

// Which clusters of the index the layer has in a place of its own; asked in the order of the disk.
class Owned {
public:
    explicit Owned(const qcow2::Layer& layer) : layer_(layer) {}

    bool has(std::uint64_t number) {
        if (number / Window::cells != window_) load(number / Window::cells);
        return bytes_[number % Window::cells] == cluster_bytes;
    }

private:
    void load(std::uint64_t window) {
        window_ = window;
        bytes_.assign(Window::cells, 0);
        const std::uint64_t begin = (window * Window::cells) << index_cluster_bits;
        const std::uint64_t end = std::min(begin + (std::uint64_t{Window::cells} << index_cluster_bits), layer_.virtual_size());
        if (begin >= end) return;
        layer_.map(begin, end, scratch_, [&](const qcow2::Extent& x) {
            if (x.kind != qcow2::Kind::data) return;
            for (std::uint64_t at = x.guest, n; at < x.guest + x.bytes; at += n) {
                n = std::min(x.guest + x.bytes - at, cluster_bytes - at % cluster_bytes);
                bytes_[(at - begin) >> index_cluster_bits] += n;
            }
        });
    }

    const qcow2::Layer& layer_;
    qcow2::Scratch scratch_;
    std::uint64_t window_ = ~std::uint64_t{0};
    std::vector<std::uint64_t> bytes_;
};

bool add_all(const qcow2::Chain& upper, const AddTo& to, qcow2::Adder& into) {
    Walk walk(upper, false);
    if (to.goes_on) into.recount();
    into.prepare(upper.virtual_size(), 1u << walk.unit_bits());
    std::uint64_t waiting = 0;
    const bool all = walk.all([&](const Cluster& c, const auto& entry) {
        const std::uint64_t begin = c.number << index_cluster_bits;
        if (to.stop && to.stop()) return false;
        if (begin < to.from) return true;
        if (waiting >= durable_bytes) {
            into.flush();
            if (to.durable) to.durable(begin);
            waiting = 0;
        }
        // Data and zeroes in the order of the disk.
        std::vector<qcow2::Adder::Piece> pieces;
        walk.each_data(c, entry, [&](const Walk::Data& d) {
            pieces.push_back({d.guest, d.bytes, false, d.assembled, d.layer, d.from});
        });
        each_zero(walk, c, [&](std::uint64_t guest, std::uint64_t bytes) { pieces.push_back({guest, bytes, true}); });
        std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.guest < b.guest; });
        for (qcow2::Adder::Piece& p : pieces) {
            // The last unit of the disk may run past its end.
            p.bytes = std::min(p.bytes, upper.virtual_size() - p.guest);
            waiting += p.bytes;
            into.add(p);
        }
        return true;
    });
    if (all)
        into.finish(to.label, point_id(upper.top()));
    else
        into.flush();
    return all;
}

// The clusters at the end of the file that no entry names yet: whoever goes on needs none of them.
void give_back(Writable& file) {
    try {
        qcow2::Adder(file, {[](const auto&, std::uint64_t) {}, [] {}}).recount();
    } catch (const Error&) {  // is less to the point than why
    }
}

}  // namespace

std::optional<std::string> cannot_add_to(const qcow2::Layer& lower, const qcow2::Chain& upper) {
    if (!lower.image()) return "is a raw image, and the merged file takes the name of a qcow2 one";
    const Walk walk(upper, false);
    return qcow2::cannot_add(*lower.image(), upper.virtual_size(), 1u << walk.unit_bits());
}

MergeSize measure_add(const qcow2::Layer& lower, const qcow2::Chain& upper) {
    MergeSize out;
    Walk walk(upper, false);
    Owned owned(lower);
    const std::uint64_t cluster = std::max(cluster_bytes, std::uint64_t{1} << lower.cluster_bits());
    std::uint64_t fresh = 0, last = ~std::uint64_t{0};
    walk.all([&](const Cluster& c, const auto&) {
        out.clusters++;
        const std::uint64_t data = walk.data_bytes(c);
        // What is stored anew is stored whole.
        const bool anew = !owned.has(c.number) && c.data;
        out.bytes += anew ? cluster_bytes : data;
        const std::uint64_t number = (c.number << index_cluster_bits) / cluster;
        if (anew && std::exchange(last, number) != number) fresh++;
        return true;
    });
    // Entries and refcounts; tables that are new; some clusters for what is rounded up.
    out.space = fresh * (cluster + 16 + 2) + (upper.virtual_size() / lower.image()->header().l2_span() + 16) * cluster;
    out.space = std::min(out.space, 2 * fresh * cluster + 16 * cluster);
    return out;
}

bool add(const qcow2::Chain& upper, const AddTo& to, const std::function<void(std::uint64_t)>& progress) {
    Writable file = Writable::open(to.path);
    qcow2::ChainOptions o = to.chain;
    o.locked = to.path;
    const qcow2::Chain all(to.top, o);
    Copier::How how;
    how.readers = readers_of(all, all.layers().size() - 1);
    how.rate = to.rate;
    how.request = to.request;
    Copier copier(upper, file, how, progress);
    const qcow2::Adder::Source source{[&](const qcow2::Adder::Piece& p, std::uint64_t at) {
                                          p.assembled ? copier.read(p.guest, at, p.bytes)
                                                      : copier.data(p.layer, p.from, p.guest, at, p.bytes);
                                      },
                                      [&] { copier.flush(); }};
    qcow2::Adder adder(file, source);
    try {
        return add_all(upper, to, adder);
    } catch (const NoRoom&) {
        give_back(file);
        throw;
    }
}

}  // namespace dmchain::chain
