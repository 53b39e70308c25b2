// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: a layer in use with the log of a random history (first writes, zeroes, discards, reuse of what was
// freed, segments, activations, growth), and what a reader of the disk must find.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "generator/prng.hpp"
#include "qcow2/active.hpp"
#include "support/active_maker.hpp"

namespace dmchain::test {

struct RandomLayerOptions {
    unsigned bits = 16;  // of a cluster
    unsigned subblock_bits = 12;
    bool partial = true;  // clusters may be owned in part
    unsigned operations = 200;
};

class RandomLayer {
public:
    // Makes base.qcow2 and @name in @folder.
    RandomLayer(const Folder& folder, const std::string& name, std::uint64_t seed, const RandomLayerOptions& o)
        : path(folder / name), random_(seed), o_(o), unit_bits_(std::max(o.subblock_bits, o.bits - 5)) {
        const std::uint64_t clusters = random_.between(1, o.bits > 18 ? 5 : o.bits < 14 ? 300 : 40);
        const std::uint64_t size = std::max<std::uint64_t>(512, (clusters << o.bits) - 512 * end_cut());
        make_base(folder, size);
        below = disk;
        qcow2::make_active(path, {size, o.bits, o.subblock_bits, "base.qcow2"});
        maker_.emplace(folder.read(name), o.bits);
        state_.resize(clusters);
        for (unsigned i = 0; i < o.operations; i++) operation();
        flush();
        if (random_.chance(50)) maker_->grow(random_.between(1, 20));  // allocated ahead of need
        folder.write(name, maker_->bytes);
        for (const State& s : state_) partial_clusters += is_partial(s, &s - state_.data());
    }

    const std::string path;
    std::string disk;   // what it reads as
    std::string below;  // what the disk would be without the layer
    std::uint64_t partial_clusters = 0;
    ActiveMaker& maker() { return *maker_; }

private:
    struct State {
        std::uint64_t host = 0;
        std::uint64_t low = 0, high = 0;
    };

    std::uint64_t end_cut() {
        switch (random_.below(3)) {
        case 0: return 0;
        case 1: return random_.below(8) << (unit_bits_ - 9);  // whole units
        default: return random_.below(std::uint64_t{1} << (o_.bits - 9));
        }
    }

    void make_base(const Folder& folder, std::uint64_t size) {
        const std::uint64_t shorter = random_.chance(30) ? random_.below(size / 512) * 512 : 0;
        disk.assign(size - shorter, '\0');
        for (std::uint64_t at = 0; at < disk.size(); at += 4096)
            if (random_.chance(40)) fill(at, std::min<std::uint64_t>(4096, disk.size() - at));
        folder.write("base.raw", disk);
        must("qemu-img convert -f raw -O qcow2 " + (folder / "base.raw") + " " + (folder / "base.qcow2"));
        disk.resize(size);
    }

    void fill(std::uint64_t at, std::uint64_t bytes) {
        gen::fill_random({reinterpret_cast<gen::u8*>(&disk[at]), bytes}, random_.next());
    }

    std::uint64_t cluster() const { return std::uint64_t{1} << o_.bits; }
    unsigned units() const { return 1u << (o_.bits - unit_bits_); }
    // Of cluster @c, those that lie in the disk.
    unsigned units_there(std::uint64_t c) const {
        const std::uint64_t there = std::min(cluster(), disk.size() - (c << o_.bits));
        return static_cast<unsigned>((there + (std::uint64_t{1} << unit_bits_) - 1) >> unit_bits_);
    }
    bool is_partial(const State& s, std::ptrdiff_t c) const {
        const std::uint64_t all = (std::uint64_t{1} << units_there(static_cast<std::uint64_t>(c))) - 1;
        return (s.low | s.high) && (s.low & all) != all && (s.high & all) != all;
    }

    void operation() {
        const std::uint64_t c = random_.below(state_.size());
        State& s = state_[c];
        const unsigned n = units_there(c);
        unsigned from = 0, count = n;
        if (o_.partial && random_.chance(70)) {
            from = static_cast<unsigned>(random_.below(n));
            count = static_cast<unsigned>(random_.between(1, n - from));
        }
        const std::uint64_t mask = ((std::uint64_t{1} << count) - 1) << from;
        const std::uint64_t unit = std::uint64_t{1} << unit_bits_, guest = c << o_.bits;
        const std::uint64_t begin = guest + from * unit, end = std::min<std::uint64_t>(disk.size(), begin + count * unit);
        switch (random_.below(10)) {
        case 0:  // discard: what is below shows
            std::copy(below.begin() + static_cast<std::ptrdiff_t>(guest),
                      below.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(disk.size(), guest + cluster())),
                      disk.begin() + static_cast<std::ptrdiff_t>(guest));
            s.low = s.high = 0;
            break;
        case 1:
        case 2:
            std::fill(disk.begin() + static_cast<std::ptrdiff_t>(begin), disk.begin() + static_cast<std::ptrdiff_t>(end), '\0');
            s.high |= mask;
            s.low &= ~mask;
            break;
        case 3:
            if (random_.chance(20)) {
                grow_disk();
                return;
            }
            [[fallthrough]];
        default:
            if (!s.host) take(s);
            fill(begin, end - begin);
            std::copy(disk.begin() + static_cast<std::ptrdiff_t>(begin), disk.begin() + static_cast<std::ptrdiff_t>(end),
                      maker_->bytes.begin() + static_cast<std::ptrdiff_t>(s.host + (begin - guest)));
            s.low |= mask;
            s.high &= ~mask;
        }
        if (!s.low && s.host) {
            freed_.push_back(s.host);
            s.host = 0;
        }
        record(c);
        if (random_.chance(20)) flush();
    }

    void take(State& s) {
        if (!free_.empty()) {
            s.host = free_.back();
            free_.pop_back();
            return;
        }
        if (random_.chance(10)) maker_->grow();  // never used
        s.host = maker_->grow();
    }

    void record(std::uint64_t c) {
        const State& s = state_[c];
        pending_.push_back({c, s.host, s.high << 32 | s.low});
        if (pending_.size() == 169) flush();
    }

    void flush() {
        if (maker_->left() <= 2) {
            const std::uint64_t segment = std::max<std::uint64_t>(4 * cluster(), 16384);
            maker_->next(maker_->grow(segment >> o_.bits), segment);
        }
        if (random_.chance(10)) maker_->epoch += static_cast<unsigned>(random_.between(1, 3));
        maker_->records(pending_);
        pending_.clear();
        free_.insert(free_.end(), freed_.begin(), freed_.end());
        freed_.clear();
    }

    // As the target does it: by whole units, and what the last cluster has behind the old end becomes zero.
    void grow_disk() {
        const std::uint64_t unit = std::uint64_t{1} << unit_bits_, old = disk.size();
        if (old % unit != 0 || o_.bits > 18) return;
        const std::uint64_t more = random_.between(1, 2 * units()) * unit;
        const std::uint64_t last = old >> o_.bits;
        disk.resize(old + more);
        below.resize(disk.size());
        state_.resize((disk.size() + cluster() - 1) >> o_.bits);
        flush();
        maker_->resize(disk.size() / 512);
        if (old % cluster() != 0) {
            const unsigned there = static_cast<unsigned>((old - (last << o_.bits)) >> unit_bits_);
            const std::uint64_t mask = ((std::uint64_t{1} << (units() - there)) - 1) << there;
            state_[last].high |= mask;
            state_[last].low &= ~mask;
            record(last);
        }
    }

    gen::Prng random_;
    const RandomLayerOptions o_;
    const unsigned unit_bits_;
    std::optional<ActiveMaker> maker_;
    std::vector<State> state_;
    std::vector<ActiveMaker::Record> pending_;
    std::vector<std::uint64_t> freed_;  // by a record that is not in the log yet
    std::vector<std::uint64_t> free_;
};

}  // namespace dmchain::test
