// SPDX-License-Identifier: GPL-2.0-or-later
// States of machines in qcow2 images.
#include "guest/vm_state.hpp"

#include <doctest/doctest.h>

#include "guest/open.hpp"
#include "support/error_of.hpp"
#include "support/image_content.hpp"
#include "support/state_maker.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::content;
using test::Folder;
using test::StreamMaker;

std::string said(const std::string& what) {
    return test::error_of([&] { read_image(open_source(what)); });
}

}  // namespace

TEST_CASE("vm state: the stream that a snapshot has is read, by its id, its name, or as the only one") {
    const Folder folder;
    const std::string stream = StreamMaker::small().bytes;
    const test::StateMaker made(stream);
    const std::string path = folder.write("disk.qcow2", made.bytes());
    const Image plain = read_image(Source(File(folder.write("stream", stream))));
    for (const std::string& what : {path, path + "@1", path + "@old"}) {
        const Source source = open_source(what);
        CHECK(source.size() == stream.size());
        CHECK(content(read_image(open_source(what))) == content(plain));
    }
    CHECK(said(path + "@new") == path + ": has no internal snapshot with the id or name 'new'; it has 1 ('old')");
}

TEST_CASE("vm state: what is refused, and the line") {
    const Folder folder;
    const std::string stream = StreamMaker::small().bytes;
    const std::string path = folder / "disk.qcow2";
    const auto refused = [&](const auto& change, const std::string& which = "") {
        test::StateMaker made(stream);
        change(made.image);
        folder.write("disk.qcow2", made.bytes());
        return said(path + which);
    };
    const auto entry = [&](auto& i) { return i.snapshots(); };
    CHECK(refused([&](auto& i) { i.put64(entry(i) + 40, 0); }) ==
          path + ": has no internal snapshot with the state of a machine, as savevm makes them");
    CHECK(refused([&](auto& i) { i.put64(entry(i) + 40, 0); }, "@old") ==
          path + ": the internal snapshot 'old' has no state of a machine in it: it is of the disk alone; with one: none");
    CHECK(refused([&](auto& i) {
              i.put64(entry(i) + 40, 1u << 30);
          }).find("in snapshot '1' has 1073741824 bytes, expected at most") != std::string::npos);
    CHECK(refused([&](auto& i) { i.put64(entry(i) + 40, 100); }).find("was cut off") != std::string::npos);
    CHECK(refused([&](auto& i) { i.put32(entry(i) + 8, 1); }).find("L1 table of the snapshot has 1 entries") !=
          std::string::npos);
    // A cluster of the state: outside the file; compressed; not there.
    const auto at = test::StateMaker(stream).first_entry();
    CHECK(refused([&](auto& i) { i.put64(at, 1u << 30); }).find("expected it to start within the file's") != std::string::npos);
    CHECK(refused([&](auto& i) { i.put64(at, std::uint64_t{1} << 62 | i.compressed()); }) ==
          path + ": the state of the machine is compressed at byte 0x0 of it, expected it as it is");
    CHECK(refused([&](auto& i) { i.put64(at, 0); }).find("is no memory of a guest") != std::string::npos);
    CHECK(refused([&](auto& i) { i.put64(at, i.l2()); }).find("expected it outside the") != std::string::npos);
}

}  // namespace dmchain::guest
