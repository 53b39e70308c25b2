// SPDX-License-Identifier: GPL-2.0-or-later
// usage: lossy-disk SOCKET FILE SEED
//
// A disk with a write cache that forgets: serves FILE to one NBD client (QEMU) on the unix socket SOCKET. What was
// written and not flushed is kept in memory. When the connection ends, however it ends, the power is gone: of those
// writes a part chosen by SEED, down to single sectors and also out of order, reaches FILE, the rest is lost.
// Prints what became of them and ends. Protocol: the NBD project's doc/proto.md, fixed newstyle, simple replies.
// Called by tests/power/run.
#include <endian.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr std::uint32_t sector_bytes = 512;
constexpr std::uint32_t max_request = 32u << 20;

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "lossy-disk: %s: %s\n", what.c_str(), errno ? std::strerror(errno) : "not what was expected");
    std::exit(1);
}

// ---- The disk ----

class Disk {
public:
    Disk(const char* path, std::uint64_t seed) : fd_(::open(path, O_RDWR | O_CLOEXEC)), rnd_(seed) {
        struct stat st {};
        if (fd_ < 0 || ::fstat(fd_, &st) != 0) die(path);
        bytes_ = static_cast<std::uint64_t>(st.st_size) / sector_bytes * sector_bytes;
    }
    std::uint64_t bytes() const { return bytes_; }

    void read(std::uint64_t at, std::vector<char>& data) {
        for (std::size_t got = 0; got < data.size();) {
            const ssize_t r = ::pread(fd_, data.data() + got, data.size() - got, static_cast<off_t>(at + got));
            if (r <= 0) die("reading the file");
            got += static_cast<std::size_t>(r);
        }
        for (auto s = cache_.lower_bound(at / sector_bytes); s != cache_.end() && s->first * sector_bytes < at + data.size(); ++s)
            std::memcpy(data.data() + (s->first * sector_bytes - at), s->second.back().data.data(), sector_bytes);
    }

    void write(std::uint64_t at, const std::vector<char>& data, bool fua) {
        const std::uint64_t first = at / sector_bytes, count = data.size() / sector_bytes;
        writes_++;
        if (fua) {
            put(at, data.data(), data.size());
            cache_.erase(cache_.lower_bound(first), cache_.lower_bound(first + count));
            return;
        }
        for (std::uint64_t i = 0; i < count; i++) {
            Version v{writes_, {}};
            std::memcpy(v.data.data(), data.data() + i * sector_bytes, sector_bytes);
            cache_[first + i].push_back(v);
        }
    }

    void flush() {
        for (const auto& [sector, versions] : cache_) put(sector * sector_bytes, versions.back().data.data(), sector_bytes);
        cache_.clear();
        flushes_++;
    }

    // Of each sector any of its versions since the last flush may be the one that got through, or none.
    void cut() {
        enum Fate { lost, kept, torn };
        const unsigned keep = std::array{0u, 10u, 50u, 90u}[rnd_() % 4], tear = rnd_() % 2 ? 30 : 5;
        std::map<std::uint64_t, Fate> fates;
        std::uint64_t through = 0, stale = 0;
        for (const auto& [sector, versions] : cache_)
            for (const Version& v : versions) fates.emplace(v.write, lost);
        for (auto& [write, fate] : fates) fate = rnd_() % 100 < tear ? torn : rnd_() % 100 < keep ? kept : lost;
        for (const auto& [sector, versions] : cache_) {
            for (auto v = versions.rbegin(); v != versions.rend(); ++v) {
                const Fate fate = fates[v->write];
                if (fate == lost || (fate == torn && rnd_() % 2)) continue;
                put(sector * sector_bytes, v->data.data(), sector_bytes);
                through++;
                if (v != versions.rbegin()) stale++;
                break;
            }
        }
        std::printf(
            "%zu writes (%zu sectors) were not flushed: %llu sectors got through, %llu of them not the last version; "
            "%llu writes and %llu flushes before\n",
            fates.size(), cache_.size(), static_cast<unsigned long long>(through), static_cast<unsigned long long>(stale),
            static_cast<unsigned long long>(writes_ - fates.size()), static_cast<unsigned long long>(flushes_));
    }

private:
    struct Version {
        std::uint64_t write;  // number of the request
        std::array<char, sector_bytes> data;
    };

    void put(std::uint64_t at, const char* data, std::size_t bytes) {
        for (std::size_t done = 0; done < bytes;) {
            const ssize_t r = ::pwrite(fd_, data + done, bytes - done, static_cast<off_t>(at + done));
            if (r <= 0) die("writing the file");
            done += static_cast<std::size_t>(r);
        }
    }

    int fd_;
    std::uint64_t bytes_ = 0, writes_ = 0, flushes_ = 0;
    std::mt19937_64 rnd_;
    std::map<std::uint64_t, std::vector<Version>> cache_;  // by sector; oldest version first
};

// ---- The protocol ----

bool receive(int fd, void* p, std::size_t n) {
    for (std::size_t got = 0; got < n;) {
        const ssize_t r = ::read(fd, static_cast<char*>(p) + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        got += static_cast<std::size_t>(r);
    }
    return true;
}

bool send_all(int fd, const void* p, std::size_t n) {
    for (std::size_t done = 0; done < n;) {
        const ssize_t r = ::send(fd, static_cast<const char*>(p) + done, n - done, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        done += static_cast<std::size_t>(r);
    }
    return true;
}

class Message {
public:
    template <typename T>
    Message& add(T value) {
        for (unsigned shift = 8 * sizeof value; shift > 0; shift -= 8) bytes_ += static_cast<char>(value >> (shift - 8));
        return *this;
    }
    bool send(int fd) const { return send_all(fd, bytes_.data(), bytes_.size()); }

private:
    std::string bytes_;
};

constexpr std::uint64_t magic_nbd = 0x4e42444d41474943, magic_option = 0x49484156454f5054, magic_option_reply = 0x3e889045565a9;
constexpr std::uint32_t option_export_name = 1, option_abort = 2, option_info = 6, option_go = 7;
constexpr std::uint32_t reply_ack = 1, reply_info = 3, reply_unsupported = 0x80000001;
// Has flags, flush, FUA, trim, write zeroes.
constexpr std::uint16_t export_flags = 1 | 4 | 8 | 32 | 64;
constexpr std::uint32_t request_magic = 0x25609513, reply_magic = 0x67446698;
constexpr std::uint16_t command_read = 0, command_write = 1, command_disconnect = 2, command_flush = 3, command_trim = 4,
                        command_write_zeroes = 6, flag_fua = 1;

// True when requests may come.
bool negotiate(int fd, std::uint64_t bytes) {
    std::uint32_t flags = 0;
    if (!Message().add(magic_nbd).add(magic_option).add(std::uint16_t{3}).send(fd) || !receive(fd, &flags, 4)) return false;
    for (;;) {
        struct __attribute__((packed)) {
            std::uint64_t magic;
            std::uint32_t option, length;
        } head;
        if (!receive(fd, &head, sizeof head) || be64toh(head.magic) != magic_option || be32toh(head.length) > 65536) return false;
        const std::uint32_t option = be32toh(head.option);
        std::vector<char> data(be32toh(head.length));
        if (!receive(fd, data.data(), data.size())) return false;
        auto reply = [&](std::uint32_t type, std::uint32_t length) {
            return Message().add(magic_option_reply).add(option).add(type).add(length);
        };
        switch (option) {
        case option_export_name: return Message().add(bytes).add(export_flags).send(fd);
        case option_info:
        case option_go:
            if (!reply(reply_info, 12).add(std::uint16_t{0}).add(bytes).add(export_flags).send(fd) ||
                !reply(reply_info, 14)
                     .add(std::uint16_t{3})
                     .add(sector_bytes)
                     .add(std::uint32_t{4096})
                     .add(max_request)
                     .send(fd) ||
                !reply(reply_ack, 0).send(fd))
                return false;
            if (option == option_go) return true;
            break;
        case option_abort: reply(reply_ack, 0).send(fd); return false;
        default:
            if (!reply(reply_unsupported, 0).send(fd)) return false;
        }
    }
}

void serve(int fd, Disk& disk) {
    struct __attribute__((packed)) {
        std::uint32_t magic;
        std::uint16_t flags, command;
        std::uint64_t cookie, offset;
        std::uint32_t length;
    } request;
    std::vector<char> data;
    while (receive(fd, &request, sizeof request) && be32toh(request.magic) == request_magic) {
        const std::uint16_t command = be16toh(request.command);
        const std::uint64_t offset = be64toh(request.offset);
        const std::uint32_t length = be32toh(request.length);
        const bool fua = be16toh(request.flags) & flag_fua;
        const bool fits =
            offset <= disk.bytes() && length <= disk.bytes() - offset && offset % sector_bytes == 0 && length % sector_bytes == 0;
        std::uint32_t error = fits || command == command_flush ? 0 : 22;  // EINVAL
        if (command == command_disconnect) return;
        if (command == command_write) {
            // A request that the cut tore in the socket was not received by the disk.
            if (length > max_request) return;
            data.resize(length);
            if (!receive(fd, data.data(), length)) return;
        }
        if (!error) switch (command) {
            case command_read:
                data.resize(length);
                disk.read(offset, data);
                break;
            case command_write: disk.write(offset, data, fua); break;
            case command_write_zeroes:
                for (std::uint64_t done = 0; done < length; done += data.size()) {
                    data.assign(std::min<std::uint64_t>(length - done, 1u << 20), 0);
                    disk.write(offset + done, data, fua);
                }
                break;
            case command_flush: disk.flush(); break;
            case command_trim: break;  // may be ignored, and what was there stays
            default: error = 22;
            }
        if (!Message().add(reply_magic).add(error).add(be64toh(request.cookie)).send(fd)) return;
        if (command == command_read && !error && !send_all(fd, data.data(), length)) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: lossy-disk SOCKET FILE SEED\n");
        return 2;
    }
    Disk disk(argv[2], std::strtoull(argv[3], nullptr, 10));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (std::strlen(argv[1]) >= sizeof address.sun_path) {
        std::fprintf(stderr, "lossy-disk: %s: too long for a socket\n", argv[1]);
        return 2;
    }
    std::strcpy(address.sun_path, argv[1]);
    ::unlink(argv[1]);
    const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || ::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(server, 1) != 0)
        die(argv[1]);
    const int client = ::accept4(server, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) die("waiting for the machine");
    errno = 0;
    if (!negotiate(client, disk.bytes())) die("negotiating");
    serve(client, disk);
    disk.cut();
    return 0;
}
