// SPDX-License-Identifier: GPL-2.0-or-later
// Copies data of layers into one file, with several requests under way, or has it share their blocks. For merge.hpp and add.hpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "chain/copy_parts.hpp"
#include "io/pace.hpp"
#include "io/turns.hpp"
#include "io/writable.hpp"
#include "io/zeroes.hpp"
#include "qcow2/chain.hpp"

namespace dmchain::chain {

// Copies pieces, those that follow one another in both files at once, and several pieces at a time. Layers are read through the page
// cache, where much of them may be; what is written goes past it, so that the disk is busy all the time, and guests do not wait for
// all of it to be written back at once.
class Copier {
public:
    // That were left out: a range of the file, within a grain.
    struct Zeroes {
        std::uint64_t to, bytes;
    };
    struct How {
        Readers readers;        // of what has to be put together first
        bool read_all = false;  // all is read by them, and not from the layers' files
        // Bytes: if all that there is to copy of a grain of the file is zero, it is left out, and told by take_zeroes(). 0: all is
        // written.
        std::size_t grain = 0;
        bool sparse = false;                    // what is left out becomes holes
        bool share = false;                     // what can be is not copied: the file shares the blocks of the layers' files
        std::uint64_t rate = 0;                 // bytes a second that are copied, at the most; 0: as fast as it goes
        std::uint64_t request = request_bytes;  // bytes of one, at the most
    };
    // @range: the layers that data() names. @progress: bytes that are there so far.
    Copier(const qcow2::Chain& range, Writable& to, const How& how, const std::function<void(std::uint64_t)>& progress)
        : range_(range),
          readers_(how.readers),
          read_all_(how.read_all),
          grain_(how.grain),
          sparse_(how.sparse),
          share_(how.share),
          to_(to),
          // A quarter of a second's, so that the pace is even.
          request_(how.rate ? std::clamp<std::uint64_t>(how.rate / 4 >> 16 << 16, 64u << 10, how.request) : how.request),
          // So that it can be told to stop every second or so.
          most_jobs_(how.rate ? std::clamp<std::uint64_t>(how.rate / request_, 1, batch_jobs) : batch_jobs),
          pace_(how.rate),
          progress_(progress) {
        to_.open_direct();
    }

    // To byte @to: what layer number @layer has at byte @from of its file, which is at byte @guest of the disk.
    void data(unsigned layer, std::uint64_t from, std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) {
        if (read_all_) return add({nullptr, guest, bytes}, to);
        const qcow2::Layer& l = *range_.layers()[layer];
        add({l.data_file() ? l.data_file() : &l.file(), from, bytes}, to);
    }
    // What has to be put together first.
    void read(std::uint64_t guest, std::uint64_t to, std::uint64_t bytes) { add({nullptr, guest, bytes}, to); }
    // They are there already.
    void skip(std::uint64_t bytes) { done_ += bytes; }
    // What was left out since the last call, of all that was flushed.
    std::vector<Zeroes> take_zeroes() { return std::exchange(zeroes_, {}); }
    void flush() {
        if (batch_.empty()) return;
        make_room();
        const std::size_t first = zeroes_.size();
        share_out(batch_.size(), threads, [this](Turns& turns, bool reports) { copy(turns, reports); });
        if (sparse_) punch_zeroes(first);
        batch_.clear();
        pieces_.clear();
        progress_(done_);
    }

private:
    static constexpr unsigned threads = 4;
    static constexpr std::size_t batch_jobs = 1024;                       // for which threads are started
    static constexpr std::uint64_t share_bytes = std::uint64_t{1} << 30;  // at once

    // As write_direct() wants it.
    class Buffer {
    public:
        explicit Buffer(std::uint64_t bytes)
            : bytes_(static_cast<unsigned char*>(std::aligned_alloc(Writable::direct_block, bytes)), std::free) {}
        unsigned char* get() const { return bytes_.get(); }

    private:
        std::unique_ptr<unsigned char, void (*)(void*)> bytes_;
    };

    struct Piece {
        const File* file;    // nullptr: the disk
        std::uint64_t from;  // byte of the file, or of the disk
        std::uint64_t bytes;
    };
    // Pieces that follow each other in the merged file, written at once: at most request_ bytes, or one piece that is shared.
    struct Job {
        std::uint64_t to;  // byte of the merged file
        std::uint64_t bytes;
        std::size_t first;  // of pieces_
        std::size_t count;
    };

    void add(const Piece& p, std::uint64_t to) {
        if (!batch_.empty() && batch_.back().to + batch_.back().bytes == to) {
            Job& job = batch_.back();
            Piece& last = pieces_.back();
            const bool goes_on = p.file == last.file && p.from == last.from + last.bytes;
            const bool fits = job.bytes + p.bytes <= (share_ ? share_bytes : request_);
            if (fits && (goes_on || !share_)) {
                job.bytes += p.bytes;
                if (goes_on) {
                    last.bytes += p.bytes;
                } else {
                    job.count++;
                    pieces_.push_back(p);
                }
                return;
            }
        }
        if (batch_.size() >= most_jobs_) flush();
        batch_.push_back({to, p.bytes, pieces_.size(), 1});
        pieces_.push_back(p);
    }
    // Several writes at a time need blocks that are there already: of what lies past the end of the file.
    void make_room() {
        std::ranges::sort(batch_, {}, &Job::to);
        for (std::size_t i = 0; i < batch_.size();) {
            const std::uint64_t begin = std::max(batch_[i].to, to_.size());
            std::uint64_t end = batch_[i].to;
            for (; i < batch_.size() && batch_[i].to == end; i++) end += batch_[i].bytes;
            if (end > begin) share_ || to_.is_device() ? to_.resize(end) : to_.allocate(begin, end - begin);
        }
    }
    // From number @first of zeroes_ on.
    void punch_zeroes(std::size_t first) {
        std::ranges::sort(zeroes_.begin() + static_cast<std::ptrdiff_t>(first), zeroes_.end(), {}, &Zeroes::to);
        for (std::size_t i = first; i < zeroes_.size();) {
            const std::uint64_t begin = zeroes_[i].to;
            std::uint64_t end = begin;
            for (; i < zeroes_.size() && zeroes_[i].to == end; i++) end += zeroes_[i].bytes;
            to_.punch(begin, end - begin);
        }
    }

    void copy(Turns& turns, bool reports) {
        const ReadDisk read_disk = readers_();
        const Buffer buffer(request_);
        while (const auto i = turns.next()) {
            const Job& j = batch_[*i];
            const Piece& p = pieces_[j.first];
            const bool shared = share_ && p.file && to_.share(*p.file, p.from, j.bytes, j.to);
            if (!shared) copy(j, read_disk, buffer.get());
            const std::uint64_t done = done_ += j.bytes;
            if (reports) progress_(done);
        }
    }

    // In parts of request_ bytes: a piece that could not be shared may have more.
    void copy(const Job& j, const ReadDisk& read_disk, unsigned char* buffer) {
        std::uint64_t begin = j.to, filled = 0;
        const auto put = [&] {
            write(buffer, filled, begin);
            begin += filled;
            pace_.add(filled);
            filled = 0;
        };
        for (std::size_t i = j.first; i < j.first + j.count; i++) {
            const Piece& p = pieces_[i];
            for (std::uint64_t at = 0, n; at < p.bytes; at += n) {
                n = std::min(request_ - filled, p.bytes - at);
                // The last cluster of a file may run past its end.
                if (p.file)
                    p.file->read_padded(buffer + filled, n, p.from + at);
                else
                    read_disk(buffer + filled, n, p.from + at);
                filled += n;
                if (filled == request_) put();
            }
        }
        if (filled) put();
    }

    void write(const unsigned char* data, std::uint64_t bytes, std::uint64_t to) {
        if (!grain_) return to_.write_direct(data, bytes, to);
        each_nonzero(
            data, bytes, to, grain_, [&](std::size_t at, std::size_t n) { to_.write_direct(data + at, n, to + at); },
            [&](std::size_t at, std::size_t n) {
                const std::lock_guard lock(zeroes_lock_);
                zeroes_.push_back({to + at, n});
            });
    }

    const qcow2::Chain& range_;
    const Readers readers_;
    const bool read_all_;
    const std::size_t grain_;
    const bool sparse_;
    const bool share_;
    Writable& to_;
    const std::uint64_t request_;
    const std::uint64_t most_jobs_;
    Pace pace_;  // of what is copied here
    const std::function<void(std::uint64_t)>& progress_;
    std::vector<Job> batch_;
    std::vector<Piece> pieces_;  // of its jobs
    std::mutex zeroes_lock_;
    std::vector<Zeroes> zeroes_;
    std::atomic<std::uint64_t> done_ = 0;  // bytes that are there
};

}  // namespace dmchain::chain
