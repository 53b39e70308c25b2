// SPDX-License-Identifier: GPL-2.0-or-later
// See diff.hpp. As the index builder does it, threads take windows of the disk in turn; but of each unit only two bits are kept:
// whether it is different, and whether it has data.
#include "chain/diff.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "io/turns.hpp"

namespace dmchain::chain {

namespace {

constexpr std::uint64_t window_bytes = std::uint64_t{512} << 20;  // one L2 table of clusters of 64 KiB

std::uint64_t size_at(const qcow2::Chain& chain, std::size_t layer) { return chain.layers()[layer]->virtual_size(); }

// A bit for each unit of a window.
class Bits {
public:
    explicit Bits(std::uint64_t count) : words_((count + 63) / 64 + 1) {}

    void clear() { std::fill(words_.begin(), words_.end(), 0); }
    void set(std::uint64_t begin, std::uint64_t end, bool on) {
        while (begin < end) {
            const std::uint64_t n = std::min(end - begin, 64 - begin % 64);
            const std::uint64_t mask = (n == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1) << begin % 64;
            std::uint64_t& word = words_[begin / 64];
            word = on ? word | mask : word & ~mask;
            begin += n;
        }
    }
    std::uint64_t word(std::uint64_t i) const { return words_[i]; }

private:
    std::vector<std::uint64_t> words_;
};

// Parts that continue each other, also from window to window, become one.
class PartJoiner {
public:
    explicit PartJoiner(FunctionRef<void(const Part&)> use) : use_(use) {}
    void add(const Part& p) {
        if (last_.bytes && last_.zero == p.zero && last_.start + last_.bytes == p.start) {
            last_.bytes += p.bytes;
            return;
        }
        flush();
        last_ = p;
    }
    void flush() {
        if (last_.bytes) use_(last_);
        last_ = {};
    }

private:
    FunctionRef<void(const Part&)> use_;
    Part last_;
};

// Of one thread.
class DiffWindow {
public:
    DiffWindow(const qcow2::Chain& chain, const Points& points, std::uint64_t end, unsigned shift)
        : chain_(chain),
          points_(points),
          disk_end_(end),
          shift_(shift),
          different_(window_bytes >> shift),
          data_(window_bytes >> shift) {}

    void fill(std::uint64_t begin) {
        begin_ = begin;
        end_ = std::min(disk_end_, begin + window_bytes);
        different_.clear();
        data_.clear();
        const bool back = points_.from && *points_.from > points_.to;
        const std::size_t low = back ? points_.to : points_.from.value_or(0);
        const std::size_t high = back ? *points_.from : points_.to;
        past(points_.from ? size_at(chain_, low) : 0, different_, true);
        for (std::size_t i = points_.from ? low + 1 : 0; i <= high; i++) {
            past(size_at(chain_, i), different_, true);
            past(size_at(chain_, i), data_, false);
            chain_.layers()[i]->map(begin_, end_, scratch_, [&](const qcow2::Extent& x) {
                mark(different_, x, true);
                mark(data_, x, x.kind != qcow2::Kind::zero);
            });
        }
        if (back) content();
    }

    void parts(PartJoiner& to) const {
        const std::uint64_t units = (end_ - begin_ + (std::uint64_t{1} << shift_) - 1) >> shift_;
        for (std::uint64_t i = 0; i < units;) {
            const std::uint64_t bit = std::uint64_t{1} << i % 64;
            const bool different = different_.word(i / 64) & bit, data = data_.word(i / 64) & bit;
            const std::uint64_t next = std::min(units, end_of_run(i, units, different, data));
            const std::uint64_t begin = begin_ + (i << shift_);
            if (different) to.add({begin, std::min(end_, begin_ + (next << shift_)) - begin, !data});
            i = next;
        }
    }

private:
    // What the disk holds at @to, if that is the lower point.
    void content() {
        data_.clear();
        for (std::size_t i = 0; i <= points_.to; i++) {
            past(size_at(chain_, i), data_, false);
            chain_.layers()[i]->map(begin_, end_, scratch_,
                                    [&](const qcow2::Extent& x) { mark(data_, x, x.kind != qcow2::Kind::zero); });
        }
    }

    void past(std::uint64_t at, Bits& bits, bool on) {
        at = std::max(at, begin_);
        if (at < end_) bits.set((at - begin_) >> shift_, (end_ - begin_ + (std::uint64_t{1} << shift_) - 1) >> shift_, on);
    }
    // Extents begin and end at units, or at the end of the disk.
    void mark(Bits& bits, const qcow2::Extent& x, bool on) const {
        const std::uint64_t at = x.guest - begin_;
        bits.set(at >> shift_, (at + x.bytes + (std::uint64_t{1} << shift_) - 1) >> shift_, on);
    }

    std::uint64_t end_of_run(std::uint64_t i, std::uint64_t units, bool different, bool data) const {
        for (std::uint64_t skip = i % 64; i < units; i = (i / 64 + 1) * 64, skip = 0) {
            const std::uint64_t d = different_.word(i / 64);
            std::uint64_t other = different ? ~d : d;
            if (different) other |= data ? ~data_.word(i / 64) : data_.word(i / 64);
            other &= ~std::uint64_t{0} << skip;
            if (other) return i / 64 * 64 + static_cast<std::uint64_t>(std::countr_zero(other));
        }
        return units;
    }

    const qcow2::Chain& chain_;
    const Points& points_;
    const std::uint64_t disk_end_;
    const unsigned shift_;  // log2 bytes of a unit
    Bits different_, data_;
    std::uint64_t begin_ = 0, end_ = 0;
    qcow2::Scratch scratch_;
};

}  // namespace

std::uint64_t bytes_from(const qcow2::Chain& chain, const Points& points) {
    return points.from ? size_at(chain, *points.from) : 0;
}

std::uint64_t bytes_to(const qcow2::Chain& chain, const Points& points) { return size_at(chain, points.to); }

void diff(const qcow2::Chain& chain, const Points& points, FunctionRef<void(const Part&)> use,
          const std::function<void(std::uint64_t)>& progress) {
    const std::uint64_t end = std::max(bytes_from(chain, points), bytes_to(chain, points));
    const auto shift = static_cast<unsigned>(std::countr_zero(chain.unit(std::max(points.from.value_or(0), points.to), end)));
    PartJoiner joiner(use);
    share_out((end + window_bytes - 1) / window_bytes, 0, [&](Turns& turns, bool reports) {
        DiffWindow window(chain, points, end, shift);
        while (const auto w = turns.next()) {
            window.fill(*w * window_bytes);
            turns.in_order(*w, [&] { window.parts(joiner); });
            if (reports && progress) progress(std::min(end, (*w + 1) * window_bytes));
        }
    });
    joiner.flush();
}

}  // namespace dmchain::chain
