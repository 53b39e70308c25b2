// SPDX-License-Identifier: GPL-2.0-or-later
// Image locks: what QEMU's own programs hold is heeded, byte by byte, and what we hold is heeded by them; who it is; and
// file systems without locks.
#include "io/qemu_lock.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "io/error.hpp"
#include "io/file.hpp"
#include "io/writable.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

using dmchain::File;
using dmchain::ImageUse;
using dmchain::lock_image;
using dmchain::Writable;
using dmchain::test::Folder;
using dmchain::test::must;
using dmchain::test::Process;
using dmchain::test::Ran;
using dmchain::test::run;

namespace {

// What lock_image() finds of a file that is opened for it alone.
std::string conflict(const std::string& path, ImageUse use) {
    const File file(path);
    const auto c = lock_image(file.fd(), use);
    return c ? c->found + ": " + c->advice : "";
}

std::string image(const Folder& folder) {
    must("qemu-img create -q -f qcow2 " + (folder / "image.qcow2") + " 1M");
    return folder / "image.qcow2";
}

std::string process(const char* name, const Process& p) {
    return std::string(name) + " (process " + std::to_string(p.pid()) + ")";
}

// Holds a lock of one byte, by an open file of its own.
class OneByte {
public:
    OneByte(const std::string& path, off_t byte, short type = F_RDLCK) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
        struct flock r {};
        r.l_type = type;
        r.l_whence = SEEK_SET;
        r.l_start = byte;
        r.l_len = 1;
        REQUIRE(::fcntl(fd_, F_OFD_SETLK, &r) == 0);
    }
    ~OneByte() { ::close(fd_); }
    OneByte(const OneByte&) = delete;
    OneByte& operator=(const OneByte&) = delete;

private:
    int fd_;
};

}  // namespace

TEST_CASE("QEMU's locks: an image that is open for writing is neither read nor written") {
    Folder folder;
    const std::string path = image(folder);
    CHECK(conflict(path, ImageUse::read) == "");
    CHECK(conflict(path, ImageUse::write) == "");
    const Process qemu({"qemu-io", "-f", "qcow2", "-c", "sleep 600000", path});
    qemu.wait_for_lock(203);
    const std::string expected = "is open for writing in " + process("qemu-io", qemu) + ": stop it first";
    CHECK(conflict(path, ImageUse::read) == expected);
    CHECK(conflict(path, ImageUse::write) == expected);
    CHECK(conflict(path, ImageUse::share) == expected);
    try {
        Writable::open(path);
        FAIL("opened for writing");
    } catch (const dmchain::Error& e) {
        CHECK(e.code() == dmchain::Exit::failed);
        CHECK(e.what() == path + ": " + expected);
    }
}

TEST_CASE("QEMU's locks: a reader and its backing file are read, but not written") {
    Folder folder;
    const std::string path = image(folder), top = folder / "top.qcow2";
    must("qemu-img create -q -f qcow2 -F qcow2 -b " + path + " " + top);
    const Process qemu({"qemu-io", "-f", "qcow2", "-c", "sleep 600000", top});
    qemu.wait_for_lock(203);
    CHECK(conflict(top, ImageUse::read) != "");
    CHECK(conflict(path, ImageUse::read) == "");
    CHECK(conflict(path, ImageUse::write) ==
          "is open in " + process("qemu-io", qemu) + ", which lets nobody write to it: stop it first");
    CHECK(conflict(path, ImageUse::share) == "");
}

TEST_CASE("QEMU's locks: who reads whatever others do stands in nobody's way") {
    Folder folder;
    const std::string path = image(folder);
    const Process qemu({"qemu-io", "-r", "-U", "-f", "qcow2", "-c", "sleep 600000", path});
    qemu.wait_for_lock(100);
    CHECK(conflict(path, ImageUse::read) == "");
    CHECK(conflict(path, ImageUse::write) == "");
}

TEST_CASE("QEMU's locks: the name is whole where the kernel's is cut off") {
    Folder folder;
    const std::string path = image(folder);
    const Process qemu({"qemu-storage-daemon", "--blockdev", "file,filename=" + path + ",node-name=f", "--blockdev",
                        "qcow2,file=f,node-name=q", "--nbd-server", "addr.type=unix,addr.path=" + (folder / "socket"), "--export",
                        "nbd,id=e,node-name=q,writable=on"});
    qemu.wait_for_lock(203);
    CHECK(conflict(path, ImageUse::read) == "is open for writing in " + process("qemu-storage-daemon", qemu) + ": stop it first");
}

TEST_CASE("QEMU's locks: each byte says what it says") {
    Folder folder;
    const std::string path = image(folder);
    const auto met = [&](off_t byte, ImageUse use) {
        const OneByte held(path, byte);
        const std::string all = conflict(path, use);
        return all.substr(0, all.find(" test_io"));
    };
    // Permissions in use: reading, writing, writing what is there already, resizing, and what only QEMU before 6.0 has.
    for (const off_t byte : {100, 102, 104, 202, 204, 99, 300}) {
        CHECK_MESSAGE(met(byte, ImageUse::read) == "", byte);
        CHECK_MESSAGE(met(byte, ImageUse::write) == "", byte);
    }
    for (const off_t byte : {101, 103})
        for (const ImageUse use : {ImageUse::read, ImageUse::write})
            CHECK_MESSAGE(met(byte, use) == "is open for writing in", byte);
    for (const off_t byte : {201, 203}) {
        CHECK_MESSAGE(met(byte, ImageUse::read) == "", byte);
        CHECK_MESSAGE(met(byte, ImageUse::write) == "is open in", byte);
    }
    CHECK(met(200, ImageUse::read) == "is open in");
    CHECK(met(200, ImageUse::write) == "is open in");
    {
        const OneByte alone(path, 100, F_WRLCK);
        CHECK(conflict(path, ImageUse::read).starts_with("is locked by test_io (process "));
    }
    CHECK(conflict(path, ImageUse::read) == "");
}

TEST_CASE("QEMU's locks: QEMU heeds ours") {
    Folder folder;
    const std::string path = image(folder);
    const std::string write = "qemu-io -f qcow2 -c 'write -q 0 512' " + path,
                      read = "qemu-io -r -f qcow2 -c 'read -q 0 512' " + path;
    {
        const File file(path);
        REQUIRE(!lock_image(file.fd(), ImageUse::read));
        const Ran ran = run(write);
        CHECK(ran.status != 0);
        CHECK(ran.out.find("Failed to get \"write\" lock") != std::string::npos);
        CHECK(run(read).status == 0);
    }
    CHECK(run(write).status == 0);  // they went with the file
    {
        const Writable file = Writable::open(path);
        CHECK(run(write).status != 0);
        CHECK(run(read).status != 0);
        CHECK(run("qemu-img info -U " + path).status == 0);
    }
    {
        const File file(path);
        REQUIRE(!lock_image(file.fd(), ImageUse::share));
        CHECK(run(write).status == 0);
    }
    {
        const Writable file = Writable::create(folder / "new");
        must("cp " + path + " " + (folder / "new"));
        CHECK(run("qemu-img info " + (folder / "new")).status != 0);
    }
}

TEST_CASE("QEMU's locks: a refused lock leaves nothing behind") {
    Folder folder;
    const std::string path = image(folder);
    const File file(path);
    {
        const OneByte held(path, 101);
        CHECK(lock_image(file.fd(), ImageUse::read));
    }
    CHECK(run("qemu-io -f qcow2 -c 'write -q 0 512' " + path).status == 0);
}

TEST_CASE("QEMU's locks: another job of dmchain is waited for") {
    Folder folder;
    const std::string path = image(folder);
    // Two programs that hold the image for a second, one of which is called dmchain.
    must("cp $(command -v qemu-io) " + (folder / "dmchain"));
    const auto seconds = [&](const std::string& program) {
        const Process holder({program, "-f", "qcow2", "-c", "sleep 1500", path});
        holder.wait_for_lock(203);
        const auto begin = std::chrono::steady_clock::now();
        const std::string met = conflict(path, ImageUse::read);
        return std::pair(met, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    };
    const auto [other, at_once] = seconds("qemu-io");
    CHECK(other != "");
    CHECK(at_once < 1);
    const auto [ours, later] = seconds(folder / "dmchain");
    CHECK(ours == "");
    CHECK(later > 0.1);
    // Not for ever.
    const Process holder({folder / "dmchain", "-f", "qcow2", "-c", "sleep 600000", path});
    holder.wait_for_lock(203);
    CHECK(conflict(path, ImageUse::read) == "is open for writing in " + process("dmchain", holder) + ": wait until it is done");
}

TEST_CASE("QEMU's locks: a process that cannot be seen") {
    if (::geteuid() != 0) return;
    Folder folder;
    const std::string path = image(folder);
    must("chmod 755 " + folder.path());
    const Process qemu({"qemu-io", "-f", "qcow2", "-c", "sleep 600000", path});
    qemu.wait_for_lock(203);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
        ::_exit(conflict(path, ImageUse::read) ==
                        "is open for writing in a process that cannot be seen from here: stop it first (root can see which it is)"
                    ? 0
                    : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
}

TEST_CASE("QEMU's locks: none on a file system that has none") {
    Folder folder;
    const std::string path = image(folder);
    const OneByte held(path, 101);
    // As a server without locks answers: every request of a lock fails.
    const auto without_locks = [&](int error) {
        const pid_t child = ::fork();
        if (child == 0) {
            sock_filter program[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fcntl, 0, 4),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_GETLK, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            const sock_fprog filter = {sizeof program / sizeof *program, program};
            if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
                ::_exit(2);
            ::_exit(conflict(path, ImageUse::read) == "" && conflict(path, ImageUse::write) == "" ? 0 : 1);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    };
    for (const int error : {ENOLCK, EINVAL, EOPNOTSUPP, ENOSYS}) CHECK_MESSAGE(without_locks(error) == 0, error);
}
