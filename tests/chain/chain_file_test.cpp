// SPDX-License-Identifier: GPL-2.0-or-later
// Reading chain files: a good one, and every damaged one with its exact message.
#include <doctest/doctest.h>

#include "chain/chain_file.hpp"
#include "chain/sample.hpp"
#include "io/error.hpp"
#include "support/folder.hpp"

namespace dmchain::test {

TEST_CASE("a good chain file is read whole") {
    Folder folder;
    const Sample sample(folder.path());
    const chain::ChainFile file{File(folder / "good.chain")};
    CHECK(file.layers().size() == 2);
    CHECK(file.path(file.layers()[1]) == folder / "top.qcow2");
    CHECK(file.sectors() == (20ull << 30) / 512);
    CHECK_NOTHROW(file.verify_index());
    CHECK_NOTHROW(file.verify_layers());
}

TEST_CASE("damaged chain files are refused with their place, what was found and what was expected") {
    Folder folder;
    const Sample good(folder.path());
    for (const ChainDamage& d : chain_damages()) {
        CAPTURE(d.name);
        Sample s = good;
        d.damage(s);
        REQUIRE(s.bytes != good.bytes);
        const std::string path = folder.write("bad.chain", s.bytes);
        const std::string expected =
            d.name == "magic" ? path + ": not a chain file: it does not begin with \"DMCHAIN\"" :
            path + ": " + d.message(s) + ": build it anew with 'dmchain create' or 'dmchain table'";
        std::string message;
        bool opened = false;
        try {
            const chain::ChainFile file{File(path)};
            opened = true;
            file.verify_index();
        } catch (const Error& e) {
            message = e.what();
            CHECK(e.code() == Exit::damaged);
        }
        CHECK(message == expected);
        if (d.met == Met::read) CHECK(opened);
    }
}

TEST_CASE("a chain file whose layers are no longer what they were is refused") {
    Folder folder;
    const Sample sample(folder.path());
    const chain::ChainFile file{File(folder / "good.chain")};
    const std::string base = folder / "base.raw";
    const auto message = [&]() -> std::string {
        try {
            file.verify_layers();
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    const std::string tail = ", the chain file " + (folder / "good.chain") + " was built from ";
    REQUIRE(message().empty());
    SUBCASE("grown") {
        std::filesystem::resize_file(base, (32ull << 30) + 512);
        CHECK(message().starts_with(base + ": size is 34359738880" + tail + "34359738368: "));
    }
    SUBCASE("written to") {
        must("touch -d 2001-01-01 " + base);
        CHECK(message().starts_with(base + ": time of modification is "));
    }
    SUBCASE("replaced") {
        must("cp --sparse=always -p " + base + " " + base + ".new && mv " + base + ".new " + base);
        CHECK(message().starts_with(base + ": inode is "));
    }
    SUBCASE("gone") {
        std::filesystem::remove(base);
        CHECK(message().find(base) != std::string::npos);
    }
}

}  // namespace dmchain::test
