// SPDX-License-Identifier: GPL-2.0-or-later
// Memory of Firecracker: a full file and diffs on top of it, and what is refused.
#include "guest/firecracker.hpp"

#include <doctest/doctest.h>

#include "support/error_of.hpp"
#include "support/image_content.hpp"

namespace dmchain::guest {
namespace {

using test::Folder;

constexpr std::size_t pages = 64;

std::string page(char c) { return std::string(page_bytes, c); }

// A file in which only these pages are no holes.
std::string sparse(const Folder& folder, const std::string& name, const std::map<std::size_t, char>& there) {
    const std::string path = folder.write(name, "");
    std::filesystem::resize_file(path, pages * page_bytes);
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [p, c] : there) {
        f.seekp(static_cast<std::streamoff>(p * page_bytes));
        f << page(c);
    }
    return path;
}

std::string said(const std::string& memory, const std::vector<std::string>& diffs = {}, const std::string& state = "") {
    return test::error_of([&] { read_firecracker(File(memory), diffs, state); });
}

}  // namespace

TEST_CASE("firecracker: of each page the last diff that has it counts, and zeroes in it count, too") {
    const Folder folder;
    std::string full;
    for (std::size_t p = 0; p < pages; p++) full += page(p == 5 ? '\0' : 'a');
    const std::string memory = folder.write("memory", full), state = folder.write("state", "devices");
    const std::vector<std::string> diffs = {sparse(folder, "one", {{1, 'b'}, {2, 'b'}, {63, 'b'}}),
                                            sparse(folder, "two", {{2, 'c'}, {3, '\0'}})};
    std::uint64_t seen = 0;
    const Image image =
        read_firecracker(File(memory), diffs, state, [&](std::size_t, std::uint64_t, const unsigned char*) { seen++; });
    full.replace(page_bytes, page_bytes, page('b'));
    full.replace(2 * page_bytes, page_bytes, page('c'));
    full.replace(3 * page_bytes, page_bytes, page('\0'));
    full.replace(63 * page_bytes, page_bytes, page('b'));
    CHECK(image.form == Form::firecracker);
    CHECK(test::content(image).at("memory") == full);
    CHECK(seen == pages - 2);
    CHECK(image.blocks[0].where[3] == RamBlock::zero);
    CHECK(*image.low == pages * page_bytes);
    CHECK(!image.processors);

    std::string again, again_state;
    FirecrackerWriter out(test::put_into(again), test::put_into(again_state));
    test::write_again(image, out);
    CHECK(again == full);
    CHECK(again_state == "devices");
}

TEST_CASE("firecracker: what is refused, and the line") {
    const Folder folder;
    const std::string memory = sparse(folder, "memory", {{0, 'a'}});
    const std::string shorter = folder.write("short", page('a')), odd = folder.write("odd", "odd"),
                      empty = folder.write("empty", "");
    CHECK(said(memory) == "");
    CHECK(said(odd) == odd + ": has 3 bytes, expected the memory of a microVM: whole pages of 4096 bytes, at most 4398046511104");
    CHECK(said(empty) != "");
    CHECK(said(memory, {shorter}) == shorter + ": has 4096 bytes, expected 262144, as " + memory + " has");
    std::string whole;
    for (std::size_t p = 0; p < pages; p++) whole += page('w');
    const std::string no_holes = folder.write("whole", whole);
    CHECK(said(memory, {no_holes}) ==
          no_holes + ": has no holes, expected them where memory did not change: was it copied without them?");
    CHECK(said(memory, {}, empty) == empty + ": has 0 bytes, expected the state of a microVM, at most 67108864");
    std::string state(page_bytes, 's');
    state.replace(0, 8, std::string("\0\0\x64\x86\x84\x19\x10\x07", 8));
    const std::string state_file = folder.write("state", state);
    const std::string line = state_file + ": is the state of a microVM of Firecracker, expected the file with its memory";
    CHECK(said(state_file) == line);
    CHECK(test::refused(state).message == line.substr(state_file.size() + 2));
}

}  // namespace dmchain::guest
