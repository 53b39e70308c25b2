// SPDX-License-Identifier: GPL-2.0-or-later
// Labels of snapshots: written into the header, kept by sealing and by QEMU, and what is refused.
#include <doctest/doctest.h>

#include "qcow2/active.hpp"
#include "qcow2/header.hpp"
#include "qcow2/label.hpp"
#include "qcow2/seal.hpp"
#include "support/folder.hpp"
#include "support/process.hpp"

namespace dmchain::test {
namespace {

using namespace dmchain::qcow2;

const Label sample{1764134684, "before-upgrade", "kernel 6.12, \xc3\xa4 umlaut"};

void check_same(const std::optional<Label>& a, const Label& b) {
    REQUIRE(a);
    CHECK(a->time == b.time);
    CHECK(a->name == b.name);
    CHECK(a->note == b.note);
}

std::string refusal(const Label& label) {
    try {
        check_label(label);
    } catch (const Error& e) {
        CHECK(e.code() == Exit::usage);
        return e.what();
    }
    return "";
}

std::string active(const Folder& folder, const std::string& backing) {
    ActiveOptions o{};
    o.size = 16u << 20;
    o.cluster_bits = 16;
    o.subblock_bits = 12;
    o.backing_name = backing;
    make_active(folder / "layer.qcow2", o);
    return folder / "layer.qcow2";
}

}  // namespace

TEST_CASE("a label is written in one sector, and sealing and QEMU keep it") {
    // Also with the longest backing name there is.
    for (const std::string& backing : {std::string("base.qcow2"), "/" + std::string(max_backing_name - 1, 'x')}) {
        Folder folder;
        must("qemu-img create -q -f qcow2 " + (folder / "base.qcow2") + " 16M");
        const std::string path = active(folder, backing);
        CHECK(!read_header(File(path), true).label);
        const std::string before = folder.read("layer.qcow2");
        write_label(path, sample);
        const std::string after = folder.read("layer.qcow2");
        REQUIRE(after.size() == before.size());
        std::size_t first = 0, last = 0;
        for (std::size_t i = 0; i < after.size(); i++) {
            if (after[i] == before[i]) continue;
            if (!first) first = i;
            last = i;
        }
        CHECK(first / 512 == last / 512);
        const Header h = read_header(File(path), true);
        check_same(h.label, sample);
        CHECK(h.backing_name == backing);
        seal(path, {});
        check_same(read_header(File(path)).label, sample);
        must("qemu-img rebase -u -f qcow2 -b '' " + path);
        check_same(read_header(File(path)).label, sample);
        must("qemu-img check -q -f qcow2 " + path);
    }
}

TEST_CASE("a damaged label is none, and the image is read all the same") {
    Folder folder;
    const std::string path = active(folder, "");
    write_label(path, sample);
    const std::uint64_t at = *read_header(File(path), true).label_at;
    const std::string good = folder.read("layer.qcow2");
    for (const std::size_t byte : {0u, 9u, 12u, 14u, 20u, 30u, 511u}) {
        std::string bad = good;
        bad[at + byte] ^= 1;
        folder.write("layer.qcow2", bad);
        CHECK(!read_header(File(path), true).label);
    }
}

TEST_CASE("an image of another program has no room for a label") {
    Folder folder;
    must("qemu-img create -q -f qcow2 " + (folder / "a.qcow2") + " 16M");
    CHECK(!read_header(File(folder / "a.qcow2")).label_at);
    CHECK_THROWS_WITH_AS(write_label(folder / "a.qcow2", sample), doctest::Contains("has no room for a name"), Error);
}

TEST_CASE("names that could be taken for something else are refused") {
    CHECK(refusal(sample).empty());
    CHECK(refusal({0, "", ""}).empty());
    CHECK(refusal({0, std::string(63, 'n'), std::string(400, 'x')}).empty());
    for (const char* name : {"12", "-x", ".x", "a/b", "a@b", "a,b", "a b", "a*", "a\nb"}) {
        CAPTURE(name);
        CHECK(refusal({0, name, ""}).find("cannot be the name of a snapshot") != std::string::npos);
    }
    CHECK(refusal({0, std::string(64, 'n'), ""}).find("has 64 bytes, expected at most 63") != std::string::npos);
    CHECK(refusal({0, "", std::string(401, 'n')}).find("has 401 bytes, expected at most 400") != std::string::npos);
    CHECK(refusal({0, "", "a\nb"}).find("control character") != std::string::npos);
}

}  // namespace dmchain::test
