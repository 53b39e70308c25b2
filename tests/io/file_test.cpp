// SPDX-License-Identifier: GPL-2.0-or-later
// Files: real paths, what is no file, reading to and past the end, identity.
#include "io/file.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/error.hpp"
#include "support/folder.hpp"

using dmchain::Error;
using dmchain::Exit;
using dmchain::File;
using dmchain::test::Folder;

namespace {

std::string message_of(const std::string& path, bool open = true) {
    try {
        open ? File(path).identity() : dmchain::identity_of(path);
    } catch (const Error& e) {
        CHECK(e.code() == Exit::failed);
        return e.what();
    }
    return "opened";
}

}  // namespace

TEST_CASE("file: the path is the real one, and reads are exact") {
    Folder folder;
    folder.write("data", "0123456789");
    REQUIRE(::symlink("data", (folder.path() + "/link").c_str()) == 0);
    File f(folder.path() + "/link");
    CHECK(f.path() == folder.path() + "/data");
    CHECK(f.size() == 10);
    CHECK(f.identity().same_file(File(folder.path() + "/data").identity()));
    char b[8] = {};
    f.read(b, 4, 6);
    CHECK(std::string(b, 4) == "6789");
    f.read_padded(b, 8, 6);
    CHECK(std::string(b, 8) == std::string("6789\0\0\0\0", 8));
    f.read_padded(b, 8, ~std::uint64_t{0} - 3);
    CHECK(std::string(b, 8) == std::string(8, '\0'));
    try {
        f.read(b, 8, 6);
        FAIL("read past the end");
    } catch (const Error& e) {
        CHECK(e.code() == Exit::damaged);
        CHECK(std::string(e.what()) == folder.path() + "/data: ends at offset 0xa, expected 8 bytes at offset 0x6");
    }
}

TEST_CASE("file: what is not a file is refused without being opened") {
    Folder folder;
    const std::string fifo = folder.path() + "/fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);  // opening it would wait for ever
    CHECK(message_of(fifo) == fifo + ": is a FIFO, expected a regular file or a block device");
    CHECK(message_of(folder.path()) == folder.path() + ": is a folder, expected a regular file or a block device");
    CHECK(message_of("/dev/null") == "/dev/null: is a character device, expected a regular file or a block device");
    CHECK(message_of(folder.path() + "/no") == folder.path() + "/no: cannot open: No such file or directory");
    CHECK(message_of("") == ": cannot open: No such file or directory");
}

TEST_CASE("file: who it is can be told without opening it") {
    Folder folder;
    folder.write("data", "0123456789");
    REQUIRE(::symlink("data", (folder.path() + "/link").c_str()) == 0);
    const dmchain::Identity opened = File(folder.path() + "/link").identity();
    const dmchain::Identity seen = dmchain::identity_of(folder.path() + "/link");
    CHECK(seen.same_file(opened));
    CHECK(seen.bytes == 10);
    CHECK(seen.mtime_sec == opened.mtime_sec);
    CHECK(seen.mtime_nsec == opened.mtime_nsec);
    // What is none is refused in the same words.
    const std::string fifo = folder.path() + "/fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    for (const std::string& path : {fifo, folder.path(), std::string("/dev/null"), folder.path() + "/no", std::string()})
        CHECK(message_of(path, false) == message_of(path));
    CHECK(message_of(fifo, false) != "opened");
}
