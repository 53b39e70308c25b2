// SPDX-License-Identifier: GPL-2.0-or-later
// usage: acked-files write DIR NOTES SEED COMMAND
//        acked-files check DIR NOTES [SNAPSHOT]
//
// "write" makes, replaces, overwrites, renames and unlinks files in DIR until it is killed, with fsync of file and
// folder, and notes in NOTES, which lies outside of what loses its power, what it begins and what is durable. Now and
// then it runs COMMAND by the shell, with a number as its last word, to take a snapshot. "check" compares DIR with
// NOTES: what was durable is there; what had only begun is there or not; nothing else is. With SNAPSHOT, a number, DIR is to be as it
// was while that snapshot was taken. Called by tests/power/in-machine.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "crash/history.hpp"

using namespace dmchain::crash;

namespace {

constexpr unsigned threads = 3, names = 40;  // each thread has names of its own

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "acked-files: %s: %s\n", what.c_str(), std::strerror(errno));
    std::_Exit(1);
}

// ---- The notes: one operation has a line when it begins and one when it is durable ----

// begin SEQ KIND NAME FIRST COUNT    KIND: c a new file of COUNT sectors, w the same in place of one that was there,
//                                    o overwritten in place from sector FIRST on, u unlinked, r renamed to the
//                                    name with number FIRST
// done SEQ
// snapshot N, snapshotted N: what was done before the first is in the snapshot, what was begun after the second is not
struct Op {
    std::uint64_t seq;
    char kind;
    unsigned name;
    std::uint64_t first, count;
    bool done;
};

class Notes {
public:
    explicit Notes(const std::string& path) {
        // A line that the last cut cut off was not noted.
        std::string text;
        {
            std::ifstream in(path);
            text.assign(std::istreambuf_iterator<char>(in), {});
        }
        text.resize(text.find_last_of('\n') + 1);
        fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd_ < 0 || ::ftruncate(fd_, static_cast<off_t>(text.size())) != 0) die(path);
    }
    // Durable outside when it returns.
    void add(const std::string& line) {
        const std::lock_guard lock(mutex_);
        const std::string text = line + "\n";
        if (::write(fd_, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd_) != 0) die("noting");
    }

private:
    int fd_;
    std::mutex mutex_;
};

// All of them, or as the snapshot sees them.
std::vector<Op> read_notes(const std::string& path, const std::string& snapshot) {
    std::ifstream in(path);
    if (!in) die(path);
    std::vector<Op> ops;
    std::map<std::uint64_t, std::size_t> by_seq;
    std::string line;
    bool taken = false, ended = snapshot.empty();
    while (std::getline(in, line)) {
        if (in.eof()) break;  // no newline: cut off
        std::istringstream words(line);
        std::string word;
        words >> word;
        if (word == "begin") {
            Op op{};
            words >> op.seq >> op.kind >> op.name >> op.first >> op.count;
            by_seq[op.seq] = ops.size();
            ops.push_back(op);
        } else if (word == "done") {
            std::uint64_t seq = 0;
            words >> seq;
            ops.at(by_seq.at(seq)).done = !taken;
        } else if (line == "snapshot " + snapshot) {
            taken = true;
        } else if (line == "snapshotted " + snapshot) {
            ended = true;
            break;
        }
    }
    if (!ended) {
        std::fprintf(stderr, "acked-files: %s: there is no snapshot %s\n", path.c_str(), snapshot.c_str());
        std::exit(2);
    }
    return ops;
}

// ---- What a file may be ----

// Content: of each sector the operations that may have written it.
struct State {
    bool exists = false;
    bool any = false;  // whatever it has: its first write was cut off
    std::vector<std::vector<std::uint64_t>> sectors;
};
using States = std::vector<State>;

State after(const State& before, const Op& op) {
    State s = before;
    if (op.kind == 'w' || op.kind == 'c') {
        s.exists = true;
        s.any = op.kind == 'c' && !op.done;
        s.sectors.assign(op.count, {op.seq});
    } else if (op.kind == 'u') {
        s = {};
    } else {
        for (std::uint64_t i = op.first; i < op.first + op.count && i < s.sectors.size(); i++) {
            if (op.done) s.sectors[i].clear();
            s.sectors[i].push_back(op.seq);
        }
    }
    return s;
}

std::map<unsigned, States> all_states(const std::vector<Op>& ops) {
    std::map<unsigned, States> files;
    auto of = [&](unsigned name) -> States& {
        States& s = files[name];
        if (s.empty()) s.push_back({});
        return s;
    };
    for (const Op& op : ops) {
        if (op.kind == 'r') {
            const States from = of(op.name);
            States& to = of(static_cast<unsigned>(op.first));
            if (op.done)
                to = from;
            else
                to.insert(to.end(), from.begin(), from.end());
            States& left = of(op.name);
            if (op.done)
                left = {State{}};
            else
                left.push_back({});
            continue;
        }
        States& states = of(op.name);
        States next;
        for (const State& s : states) next.push_back(after(s, op));
        if (op.done && op.kind != 'o') next.resize(1);
        if (op.done)
            states = next;
        else
            states.insert(states.end(), next.begin(), next.end());
    }
    return files;
}

// A sector carries its place in the file and the operation that wrote it.
bool is(const State& s, bool exists, const std::vector<unsigned char>& data) {
    if (s.exists != exists) return false;
    if (!exists || s.any) return true;
    if (data.size() != s.sectors.size() * sector_bytes) return false;
    unsigned char want[sector_bytes];
    for (std::size_t i = 0; i < s.sectors.size(); i++) {
        bool good = false;
        for (const std::uint64_t seq : s.sectors[i]) {
            fill_sector(i, seq, want);
            good = good || std::memcmp(want, data.data() + i * sector_bytes, sector_bytes) == 0;
        }
        if (!good) return false;
    }
    return true;
}

std::string path_of(const std::string& dir, unsigned name) {
    return dir + "/" + std::to_string(name / names) + "/f" + std::to_string(name % names);
}

// Nothing when there is no such file.
std::optional<std::vector<unsigned char>> read_file(const std::string& path, std::size_t max = 1 << 20) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) die(path);
        return {};
    }
    std::vector<unsigned char> data(max + 1);
    std::size_t got = 0;
    for (ssize_t r; (r = ::read(fd, data.data() + got, data.size() - got)) != 0; got += static_cast<std::size_t>(r))
        if (r < 0) die(path);
    ::close(fd);
    data.resize(got);
    return data;
}

std::size_t check_loose(const std::string& dir);

int check(const std::string& dir, const std::string& notes, const std::string& snapshot) {
    const std::vector<Op> ops = read_notes(notes, snapshot);
    const std::map<unsigned, States> files = all_states(ops);
    std::size_t wrong = 0, there = 0, unsure = 0;
    std::map<unsigned, bool> exists;
    for (const auto& [name, states] : files) {
        const auto data = read_file(path_of(dir, name));
        exists[name] = data.has_value();
        there += data.has_value();
        unsure += states.size() > 1;
        if (std::any_of(states.begin(), states.end(),
                        [&](const State& s) { return is(s, data.has_value(), data ? *data : std::vector<unsigned char>()); }))
            continue;
        if (++wrong > 8) continue;
        std::uint64_t word[2] = {0, 0};
        if (data && data->size() >= 16) std::memcpy(word, data->data(), 16);
        const State& base = states.front();
        std::fprintf(stderr,
                     "acked-files: %s: %s, %zu bytes, begins with operation %llu; expected %s of %zu bytes, operation %llu, or "
                     "one of %zu others\n",
                     path_of(dir, name).c_str(), data ? "there" : "not there", data ? data->size() : 0,
                     static_cast<unsigned long long>(word[1]), base.exists ? "a file" : "no file",
                     base.sectors.size() * sector_bytes,
                     static_cast<unsigned long long>(base.exists && !base.sectors.empty() ? base.sectors[0].front() : 0),
                     states.size() - 1);
    }
    // A file that is being renamed has one name or the other, if nothing else may have happened to either: while a
    // snapshot is taken, a file may be made, renamed, and renamed again.
    for (const Op& op : ops) {
        if (op.kind != 'r' || op.done || exists[op.name] || exists[static_cast<unsigned>(op.first)]) continue;
        auto touches = [&](const Op& o) {
            const bool same = o.name == op.name || o.name == op.first;
            return o.seq != op.seq && (&o > &op || !o.done) &&
                   (same || (o.kind == 'r' && (o.first == op.name || o.first == op.first)));
        };
        if (std::any_of(ops.begin(), ops.end(), touches)) continue;
        std::fprintf(stderr, "acked-files: %s is lost: it was being renamed\n", path_of(dir, op.name).c_str());
        wrong++;
    }
    wrong += check_loose(dir);
    std::size_t acknowledged = 0;
    for (const Op& op : ops) acknowledged += op.done;
    std::printf("%zu operations acknowledged, %zu files, %zu unsure, %zu wrong\n", acknowledged, there, unsure, wrong);
    return wrong ? 1 : 0;
}

// ---- Writing ----

void sync_folder(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ::fsync(fd) != 0) die(path);
    ::close(fd);
}

void put(int fd, std::uint64_t first, std::uint64_t count, std::uint64_t seq) {
    std::vector<unsigned char> data(count * sector_bytes);
    for (std::uint64_t i = 0; i < count; i++) fill_sector(first + i, seq, data.data() + i * sector_bytes);
    if (::pwrite(fd, data.data(), data.size(), static_cast<off_t>(first * sector_bytes)) != static_cast<ssize_t>(data.size()))
        die("writing");
}

class Writer {
public:
    Writer(const std::string& dir, Notes& notes, unsigned number, std::uint64_t seed, std::uint64_t seq)
        : dir_(dir + "/" + std::to_string(number)),
          top_(dir),
          notes_(notes),
          number_(number),
          seed_(seed),
          rnd_(seed * 64 + number),
          seq_(seq) {}

    [[noreturn]] void run() {
        ::mkdir(dir_.c_str(), 0755);
        sync_folder(dir_);
        sync_folder(top_);
        for (unsigned name = 0; name < names; name++) {
            struct stat st {};
            if (::stat(path_of(top_, number_ * names + name).c_str(), &st) == 0 && st.st_size > 0)
                there_[name] = static_cast<std::uint64_t>(st.st_size) / sector_bytes;
        }
        for (;;) {
            one();
            // In every second boot flushes are rare, so that more is lost.
            if (seed_ % 2) ::usleep(static_cast<unsigned>(draw(1500000)));
        }
    }

private:
    std::uint64_t draw(std::uint64_t n) { return rnd_() % n; }
    unsigned any() { return std::next(there_.begin(), static_cast<long>(draw(there_.size())))->first; }

    void one() {
        const unsigned what = static_cast<unsigned>(draw(20));
        const unsigned free = static_cast<unsigned>(draw(names));
        if (there_.empty() || what < 10) {
            // A whole file: straight if there is none of that name, otherwise beside and renamed over it.
            const bool beside = there_.count(free);
            const std::uint64_t count = 1 + draw(draw(3) ? 40 : 1000), seq = begin(beside ? 'w' : 'c', free, 0, count);
            const std::string path = path_of(top_, number_ * names + free), temporary = beside ? dir_ + "/new" : path;
            const int fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            if (fd < 0) die(temporary);
            put(fd, 0, count, seq);
            if (::fsync(fd) != 0) die(temporary);
            ::close(fd);
            if (beside && ::rename(temporary.c_str(), path.c_str()) != 0) die(path);
            sync_folder(dir_);
            end(seq);
            there_[free] = count;
        } else if (what < 15) {
            const unsigned name = any();
            const std::uint64_t first = draw(there_[name]), count = 1 + draw(std::min<std::uint64_t>(there_[name] - first, 64));
            const std::uint64_t seq = begin('o', name, first, count);
            const std::string path = path_of(top_, number_ * names + name);
            const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (draw(2) ? O_DSYNC : 0));
            if (fd < 0) die(path);
            put(fd, first, count, seq);
            if (::fdatasync(fd) != 0) die(path);
            ::close(fd);
            end(seq);
        } else if (what < 18 && !there_.count(free)) {
            const unsigned name = any();
            const std::uint64_t seq = begin('r', name, number_ * names + free, 0);
            const std::string to = path_of(top_, number_ * names + free);
            if (::rename(path_of(top_, number_ * names + name).c_str(), to.c_str()) != 0) die(to);
            sync_folder(dir_);
            end(seq);
            there_[free] = there_[name];
            there_.erase(name);
        } else {
            const unsigned name = any();
            const std::uint64_t seq = begin('u', name, 0, 0);
            const std::string path = path_of(top_, number_ * names + name);
            if (::unlink(path.c_str()) != 0) die(path);
            sync_folder(dir_);
            end(seq);
            there_.erase(name);
        }
    }
    std::uint64_t begin(char kind, unsigned name, std::uint64_t first, std::uint64_t count) {
        seq_ += threads;
        std::ostringstream line;
        line << "begin " << seq_ << ' ' << kind << ' ' << number_ * names + name << ' ' << first << ' ' << count;
        notes_.add(line.str());
        return seq_;
    }
    void end(std::uint64_t seq) { notes_.add("done " + std::to_string(seq)); }

    std::string dir_, top_;
    Notes& notes_;
    unsigned number_;
    std::uint64_t seed_;
    std::mt19937_64 rnd_;
    std::uint64_t seq_;
    std::map<unsigned, std::uint64_t> there_;  // sectors, by name
};

// Writes that nobody waits for: on their way to the disk, but not flushed.
constexpr std::uint64_t loose_sectors = 32768, loose_seq = 1ull << 48;

[[noreturn]] void write_loose(const std::string& dir, std::uint64_t seed) {
    std::mt19937_64 rnd(seed);
    const int fd = ::open((dir + "/loose").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) die("loose");
    for (std::uint64_t seq = loose_seq | seed << 20;; seq++) {
        const std::uint64_t count = 8 << rnd() % 6;
        put(fd, rnd() % (loose_sectors - count) & ~7ull, count, seq);
        if (rnd() % 2 && ::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE) != 0) die("loose");
        ::usleep(static_cast<unsigned>(rnd() % 20000));
    }
}

// Of those each sector has zeroes or what was once written there, nothing else.
std::size_t check_loose(const std::string& dir) {
    const auto data = read_file(dir + "/loose", loose_sectors * sector_bytes);
    std::size_t wrong = 0;
    unsigned char want[sector_bytes];
    for (std::size_t i = 0; data && i < data->size() / sector_bytes; i++) {
        std::uint64_t seq = 0;
        std::memcpy(&seq, data->data() + i * sector_bytes + 8, 8);
        fill_sector(i, seq, want);
        const bool good = std::memcmp(want, data->data() + i * sector_bytes, sector_bytes) == 0 && (seq == 0 || seq & loose_seq);
        if (!good && ++wrong <= 8)
            std::fprintf(stderr, "acked-files: loose: sector %zu is foreign (operation %llu)\n", i,
                         static_cast<unsigned long long>(seq));
    }
    return wrong;
}

// Takes snapshots: COMMAND is run with N between the notes "snapshot N" and "snapshotted N".
void take_snapshots(Notes& notes, const std::string& command, std::uint64_t seed, std::uint64_t number) {
    std::mt19937_64 rnd(seed);
    for (;;) {
        ::usleep(100000 + static_cast<unsigned>(rnd() % 800000));
        const std::string n = std::to_string(++number);
        notes.add("snapshot " + n);
        if (std::system((command + " " + n).c_str()) != 0) die(command);
        notes.add("snapshotted " + n);
    }
}

int write(const std::string& dir, const std::string& path, std::uint64_t seed, const std::string& command) {
    Notes notes(path);
    std::uint64_t seq = 0, number = 0;
    for (const Op& op : read_notes(path, "")) seq = std::max(seq, op.seq);
    {
        std::ifstream in(path);
        for (std::string line; std::getline(in, line);)
            if (line.rfind("snapshot ", 0) == 0) number = std::strtoull(line.c_str() + 9, nullptr, 10);
    }
    seq -= seq % threads;
    std::vector<std::thread> writers;
    for (unsigned i = 0; i < threads; i++) writers.emplace_back([&, i] { Writer(dir, notes, i, seed, seq + threads + i).run(); });
    writers.emplace_back([&] { write_loose(dir, seed); });
    writers.emplace_back([&] { take_snapshots(notes, command, seed, number); });
    for (std::thread& t : writers) t.join();
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "write" && argc == 6) return write(argv[2], argv[3], std::strtoull(argv[4], nullptr, 10), argv[5]);
    if (what == "check" && (argc == 4 || argc == 5)) return check(argv[2], argv[3], argc > 4 ? argv[4] : "");
    std::fprintf(stderr, "usage: acked-files write DIR NOTES SEED COMMAND | check DIR NOTES [SNAPSHOT]\n");
    return 2;
}
