// SPDX-License-Identifier: GPL-2.0-or-later
// Reading chain files: a good one, and every damaged one with its exact message.
#include <doctest/doctest.h>

#include "chain/chain_file.hpp"
#include "chain/places.hpp"
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
    CHECK_NOTHROW(chain::find_layers(file));
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
        // Without a superblock that is sound nobody knows whether it had an active layer.
        chain_fault fault{};
        const bool sound = chain_check_supers(reinterpret_cast<const chain_super*>(s.bytes.data()), s.bytes.size(), &fault) >= 0;
        const std::string remedy = sound ? "'dmchain create' or 'dmchain index'"
                                         : "'dmchain recover' of the layer that was active last, or, if it was only read, "
                                           "'dmchain index'";
        const std::string expected = d.name == "magic" ? path + ": not a chain file: it does not begin with \"DMCHAIN\""
                                                       : path + ": " + d.message(s) + ": rebuild it with " + remedy;
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

TEST_CASE("of two superblocks the sound one with the larger generation counts") {
    Folder folder;
    const Sample good(folder.path());
    // A file with both copies, told apart by a field that is not checked.
    const auto make = [&](std::uint64_t first, std::uint64_t second) {
        Sample s = good;
        s.put(offsetof(chain_super, generation), first);
        s.put<std::uint64_t>(offsetof(chain_super, nodes), 1);
        s.seal_super();
        Sample other = s;
        other.put(offsetof(chain_super, generation), second);
        other.put<std::uint64_t>(offsetof(chain_super, nodes), 2);
        other.seal_super();
        s.bytes.replace(CHAIN_SUPER_BYTES, CHAIN_SUPER_BYTES, other.bytes, 0, CHAIN_SUPER_BYTES);
        return s.bytes;
    };
    const auto taken = [&](const std::string& bytes) {
        const chain::ChainFile file{File(folder.write("two.chain", bytes))};
        CHECK_NOTHROW(file.verify_index());
        return file.super().nodes;
    };
    std::string bytes = make(5, 4);
    CHECK(taken(bytes) == 1);
    bytes[200] = 'x';  // torn
    CHECK(taken(bytes) == 2);
    bytes[0] = 'x';
    CHECK(taken(bytes) == 2);
    bytes = make(5, 6);
    CHECK(taken(bytes) == 2);
    bytes[4096 + 200] = 'x';
    CHECK(taken(bytes) == 1);
    bytes[4096] = 'x';
    CHECK(taken(bytes) == 1);
    bytes[0] = 'x';
    CHECK_THROWS_WITH(taken(bytes), doctest::Contains("not a chain file"));
}

TEST_CASE("a chain file with an active layer") {
    Folder folder;
    Sample s(folder.path());
    const auto message = [&](bool verify = true) -> std::string {
        try {
            const chain::ChainFile file{File(folder.write("active.chain", s.bytes))};
            file.verify_index();
            if (verify) chain::find_layers(file);
            CHECK(file.path(*file.active()) == folder / "top.qcow2");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    s.make_active();
    CHECK(message() == "");
    SUBCASE("it grows and changes") {
        std::filesystem::resize_file(folder / "top.qcow2", (40ull << 30));
        must("touch -d 2001-01-01 " + (folder / "top.qcow2"));
        CHECK(message() == "");
    }
    SUBCASE("it is another file") {
        must("cp --sparse=always " + (folder / "top.qcow2") + " " + (folder / "new") + " && mv " + (folder / "new") + " " +
             (folder / "top.qcow2"));
        CHECK(message().starts_with((folder / "top.qcow2") + ": inode is "));
        CHECK(message().ends_with("rebuild the chain file with 'dmchain recover'"));
    }
    SUBCASE("the layer table does not have it") {
        s.put(offsetof(chain_super, active), std::uint16_t{9});
        s.seal_super();
        CHECK(message() == (folder / "active.chain") +
                               ": at byte 74: active layer is 9, expected one of the layer table: "
                               "rebuild it with 'dmchain recover'");
    }
    SUBCASE("it is sealed") {
        s.put(s.layers + sizeof(chain_layer) + offsetof(chain_layer, flags), std::uint32_t{0});
        s.seal_layers();
        CHECK(message() == (folder / "active.chain") +
                               ": at byte 74: active layer is 2, expected one that is not sealed: "
                               "rebuild it with 'dmchain recover'");
    }
    SUBCASE("a node is damaged") {
        s.put<char>(s.array + 1000, 1);
        CHECK(message(false).ends_with("rebuild it with 'dmchain recover'"));
    }
}

TEST_CASE("a chain file whose layers are no longer what they were is refused") {
    Folder folder;
    const Sample sample(folder.path());
    const chain::ChainFile file{File(folder / "good.chain")};
    const std::string base = folder / "base.raw";
    const auto message = [&]() -> std::string {
        try {
            chain::find_layers(file);
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
