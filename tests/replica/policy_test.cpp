// SPDX-License-Identifier: GPL-2.0-or-later
// Policies: the file, and what is refused in it.
#include "replica/policy.hpp"

#include <doctest/doctest.h>

#include "io/error.hpp"
#include "support/folder.hpp"

namespace dmchain::replica {
namespace {

std::string refused(const std::string& text) {
    test::Folder folder;
    const std::string path = folder.write("policy", text);
    try {
        const Policy p(path);
    } catch (const Error& e) {
        return e.what() + path.size() + 2;
    }
    return "read";
}

unsigned copies(const Policy& p, guest::Class c) { return p.copies[static_cast<std::size_t>(c)]; }

}  // namespace

TEST_CASE("policy: what is said, and what is not") {
    const Policy standard;
    CHECK(copies(standard, guest::Class::anonymous) == 3);
    CHECK(copies(standard, guest::Class::device) == 3);
    CHECK(copies(standard, guest::Class::file_mapped) == 3);
    CHECK(copies(standard, guest::Class::free) == 0);
    CHECK(copies(standard, guest::Class::offline) == 0);
    CHECK(standard.disk == 0);
    CHECK(standard.highest() == 3);
    CHECK(!standard.compress);

    test::Folder folder;
    const Policy p(
        folder.write("policy", "# ours\nslab = 4\n\ncritical=2 # less\n  other = 5\nfree = 1\ndisk = 1\ncompress = zstd\n"));
    CHECK(copies(p, guest::Class::slab) == 4);
    CHECK(copies(p, guest::Class::anonymous) == 2);
    CHECK(copies(p, guest::Class::file_clean) == 5);
    CHECK(copies(p, guest::Class::free) == 1);
    CHECK(copies(p, guest::Class::offline) == 0);
    CHECK(p.disk == 1);
    CHECK(p.compress);
    CHECK(p.highest() == 5);
}

TEST_CASE("policy: what is refused") {
    CHECK(refused("") == "read");
    CHECK(refused("pages = 1\n") ==
          "line 1: 'pages' is neither critical, other, disk, compress, nor a class of 'dmchain guest-map'");
    CHECK(refused("\ncritical = 0\n") == "line 2: critical is '0', expected a number of copies from 1 to 16");
    CHECK(refused("disk = 17\n") == "line 1: disk is '17', expected a number of copies from 0 to 16");
    for (const char* value : {"", "x", "-1", "1x", "99999999999"}) CHECK(refused(std::string("other = ") + value) != "read");
    CHECK(refused("other\n") == "line 1: other is '', expected a number of copies from 1 to 16");
    CHECK(refused("compress = gzip\n") == "line 1: compress is 'gzip', expected zstd or no");
    CHECK(refused("compress = no\ncompress = zstd\n") == "line 2: compress is there twice");
    CHECK(refused("slab = 1\nslab = 1\n") == "line 2: slab is there twice");
    CHECK_THROWS_AS(Policy("/nowhere/policy"), Error);
}

}  // namespace dmchain::replica
