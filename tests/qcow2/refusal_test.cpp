// SPDX-License-Identifier: GPL-2.0-or-later
// Damaged and hostile images: each is a good image with a few bytes changed, and each must be refused
// with this message and this exit code, by the library (opening, mapping and reading everything) and
// by the program.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <vector>

#include "io/error.hpp"
#include "qcow2/reader.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace dmchain::test {
namespace {

using Damage = std::function<void(Maker&)>;

struct Case {
    const char* name;
    MakerOptions options;
    Damage damage;
    Exit code;
    // $D is the folder. The image is $D/top.qcow2.
    const char* message;
};

constexpr std::uint64_t one = 1;

std::vector<Case> image_cases() {
    using O = MakerOptions;
    const O plain;
    const O v2{.version = 2};
    const O ext{.cluster_bits = 14, .extended_l2 = true};
    const O data{.data_file = "data.raw"};
    const O snap{.snapshot = true};
    const O backed{.backing = "base.qcow2", .backing_format = "qcow2"};
    return {
#include "refusal_cases.inc"
    };
}

void write_neighbours(const Folder& folder) {
    folder.write("data.raw", std::string(16 * 4096, 'd'));
    folder.write("base.qcow2", Maker().bytes);
}

std::string filled_in(std::string message, const Folder& folder) {
    for (std::size_t at; (at = message.find("$D")) != std::string::npos;) message.replace(at, 2, folder.path());
    return message;
}

struct Refusal {
    Exit code = Exit::done;
    std::string message;
};

Refusal refusal_of(const std::string& path, const qcow2::ChainOptions& options = {}) {
    try {
        qcow2::Chain chain(path, options);
        qcow2::Reader reader(chain);
        std::vector<char> buffer(1 << 16);
        for (std::uint64_t at = 0; at < chain.virtual_size() && at < 64 << 20; at += buffer.size())
            reader.read(buffer.data(), buffer.size(), at);
    } catch (const Error& e) {
        return {e.code(), e.what()};
    }
    return {};
}

}  // namespace

TEST_CASE("refusal: the images that the table damages are good") {
    for (const MakerOptions& o :
         {MakerOptions{}, MakerOptions{.version = 2}, MakerOptions{.cluster_bits = 14, .extended_l2 = true},
          MakerOptions{.data_file = "data.raw"}, MakerOptions{.snapshot = true},
          MakerOptions{.backing = "base.qcow2", .backing_format = "qcow2"}}) {
        Folder folder;
        write_neighbours(folder);
        const std::string top = folder.write("top.qcow2", Maker(o).bytes);
        Refusal r = refusal_of(top);
        CHECK(r.message == "");
        if (o.data_file.empty()) must("qemu-img check -q " + top);
        must("cd " + folder.path() + " && qemu-img convert -O raw top.qcow2 out.raw");
        CHECK(run(dmchain() + " check " + top).out ==
              top + ": " + (o.backing.empty() ? "1 layer" : "2 layers") + " checked, no faults\n");
    }
}

TEST_CASE("refusal: every damaged image by its message, in the library and in the program") {
    const std::vector<Case> cases = image_cases();
    CHECK(cases.size() >= 60);
    for (const Case& c : cases) {
        CAPTURE(std::string(c.name));
        Folder folder;
        write_neighbours(folder);
        Maker maker(c.options);
        c.damage(maker);
        const std::string top = folder.write("top.qcow2", maker.bytes);
        const std::string expected = filled_in(c.message, folder);
        Refusal r = refusal_of(top);
        CHECK(r.message == expected);
        CHECK(r.code == c.code);
        // check goes on after the first fault, but it finds this one, and ends with its code.
        Ran ran = run(dmchain() + " check " + top);
        CHECK(ran.status == static_cast<int>(c.code));
        CHECK(ran.out.find(expected) != std::string::npos);
        // inspect stops at it.
        ran = run(dmchain() + " inspect " + top);
        if (ran.status != 0) {
            CHECK(ran.status == static_cast<int>(c.code));
            CHECK(ran.out == "dmchain: " + expected + "\n");
        } else {
            CHECK(ran.out.find("not readable: " + expected) != std::string::npos);
        }
    }
}

}  // namespace dmchain::test
