// SPDX-License-Identifier: GPL-2.0-or-later
// Copies data of layers into one file, with several requests under way, or has it share their blocks. For merge.hpp and add.hpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "chain/copy_parts.hpp"
#include "io/turns.hpp"
#include "io/writable.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// Copies pieces, those that follow one another in both files at once, and several pieces at a time.
class Copier {
public:
    struct How {
        Readers readers;         // of what has to be put together first
        bool read_all = false;   // all is read by them, and not from the layers' files
        bool sparse = false;     // zeroes are left out
        bool share = false;      // what can be is not copied: the file shares the blocks of the layers' files
        std::uint64_t rate = 0;  // bytes a second that are copied, at the most; 0: as fast as it goes
    };
    // @range: the layers that data() names. @progress: bytes that are there so far.
    Copier(const qcow2::Chain& range, Writable& to, const How& how, const std::function<void(std::uint64_t)>& progress)
        : range_(range),
          readers_(how.readers),
          read_all_(how.read_all),
          sparse_(how.sparse),
          share_(how.share),
          to_(to),
          rate_(how.rate),
          // So that it can be told to stop every second or so.
          most_jobs_(how.rate ? std::clamp<std::uint64_t>(how.rate / copy_bytes, 1, batch_jobs) : batch_jobs),
          progress_(progress) {}

    // To byte @to: what layer number @layer has at byte @from of its file, which is at byte @guest of the disk.
    void data(unsigned layer, std::uint64_t from, std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) {
        if (read_all_) return add({nullptr, guest, to, bytes});
        const qcow2::Layer& l = *range_.layers()[layer];
        add({l.data_file() ? l.data_file() : &l.file(), from, to, bytes});
    }
    // What has to be put together first.
    void read(std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) { add({nullptr, guest, to, bytes}); }
    // They are there already.
    void skip(std::uint64_t bytes) { done_ += bytes; }
    void flush() {
        if (batch_.empty()) return;
        std::uint64_t end = 0;
        for (const Job& j : batch_) end = std::max(end, j.to + j.bytes);
        if (end > to_.size()) to_.resize(end);
        share_out(batch_.size(), copy_threads, [this](Turns& turns, bool reports) { copy(turns, reports); });
        batch_.clear();
        progress_(done_);
    }

private:
    static constexpr std::size_t batch_jobs = 128;                        // for which threads are started
    static constexpr std::uint64_t share_bytes = std::uint64_t{1} << 30;  // at once

    struct Job {
        const File* file;    // nullptr: the disk
        std::uint64_t from;  // byte of the file, or of the disk
        std::uint64_t to;    // byte of the merged file
        std::uint64_t bytes;
    };

    void add(const Job& j) {
        if (!batch_.empty()) {
            Job& last = batch_.back();
            if (j.file == last.file && j.from == last.from + last.bytes && j.to == last.to + last.bytes &&
                last.bytes + j.bytes <= (share_ ? share_bytes : copy_bytes)) {
                last.bytes += j.bytes;
                return;
            }
        }
        if (batch_.size() >= most_jobs_) flush();
        batch_.push_back(j);
    }

    void copy(Turns& turns, bool reports) {
        const ReadDisk read_disk = readers_();
        std::vector<unsigned char> buffer(copy_bytes);
        while (const auto i = turns.next()) {
            const Job& j = batch_[*i];
            const bool shared = share_ && j.file && to_.share(*j.file, j.from, j.bytes, j.to);
            for (std::uint64_t at = 0, n; !shared && at < j.bytes; at += n) {
                n = std::min(copy_bytes, j.bytes - at);
                copy(j, at, n, read_disk, buffer.data());
            }
            const std::uint64_t done = done_ += j.bytes;
            if (reports) progress_(done);
        }
    }

    // @bytes of a job from its byte @at on.
    void copy(const Job& j, std::uint64_t at, std::uint64_t bytes, const ReadDisk& read_disk, unsigned char* buffer) {
        // The last cluster of a file may run past its end.
        if (j.file)
            j.file->read_padded(buffer, bytes, j.from + at);
        else
            read_disk(buffer, bytes, j.from + at);
        // A layer stays as it was stored: the target reads what is no hole faster.
        if (sparse_)
            each_nonzero(buffer, bytes, [&](std::size_t in, std::size_t n) { to_.write(&buffer[in], n, j.to + at + in); });
        else
            to_.write(buffer, bytes, j.to + at);
        const std::uint64_t copied = copied_ += bytes;
        if (rate_)
            std::this_thread::sleep_until(begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                                                       static_cast<double>(copied) / static_cast<double>(rate_))));
    }

    using Clock = std::chrono::steady_clock;

    const qcow2::Chain& range_;
    const Readers readers_;
    const bool read_all_;
    const bool sparse_;
    const bool share_;
    Writable& to_;
    const std::uint64_t rate_;
    const std::uint64_t most_jobs_;
    const Clock::time_point begin_ = Clock::now();
    const std::function<void(std::uint64_t)>& progress_;
    std::vector<Job> batch_;
    std::atomic<std::uint64_t> done_ = 0;    // bytes that are there
    std::atomic<std::uint64_t> copied_ = 0;  // of these, by copying them here
};

}  // namespace dmchain::chain
