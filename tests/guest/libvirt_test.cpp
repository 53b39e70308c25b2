// SPDX-License-Identifier: GPL-2.0-or-later
// Files of 'virsh save': streams behind libvirt's header, compressed or not.
#include "guest/libvirt.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

#include "guest/open.hpp"
#include "support/error_of.hpp"
#include "support/image_content.hpp"
#include "support/stream_maker.hpp"

namespace dmchain::guest {
namespace {

using test::content;
using test::Folder;
using test::refused;
using test::StreamMaker;

struct Variable {
    Variable(const char* name, const std::string& value) : name_(name) {
        if (const char* const was = std::getenv(name)) was_ = was;
        ::setenv(name, value.c_str(), 1);
    }
    ~Variable() {
        if (was_)
            ::setenv(name_, was_->c_str(), 1);
        else
            ::unsetenv(name_);
    }
    const char* name_;
    std::optional<std::string> was_;
};

std::string said(const std::string& path) {
    return test::error_of([&] { read_image(open_source(path)); });
}

}  // namespace

TEST_CASE("virsh save: the stream behind the header is read, and the header kept") {
    const Folder folder;
    const std::string header = StreamMaker::libvirt_header(0), bytes = header + StreamMaker::small().bytes;
    const Image image = read_image(Source(File(folder.write("saved", bytes))));
    const Image plain = read_image(Source(File(folder.write("stream", StreamMaker::small().bytes))));
    CHECK(content(image) == content(plain));
    CHECK(image.others[0].begin == 0);
    CHECK(image.others[0].end == header.size() + plain.others[0].end);
}

TEST_CASE("virsh save: each compression is taken off, and the header says so") {
    const Folder folder;
    const std::string stream = folder.write("stream", StreamMaker::small().bytes);
    const Image plain = read_image(Source(File(stream)));
    unsigned format = 0, tried = 0;
    for (const std::string program : {"gzip", "bzip2", "xz", "lzop", "zstd"}) {
        format++;
        if (test::run("command -v " + program).status != 0) continue;
        tried++;
        test::must(program + " -c " + stream + " >" + (folder / "compressed"));
        const std::string header = StreamMaker::libvirt_header(format, "<domain>with a name</domain>");
        const std::string saved = folder.write("saved", header + folder.read("compressed"));
        const Source source = open_source(saved);
        std::string all(source.size(), '?');
        source.read(all.data(), all.size(), 0);
        CHECK(all == StreamMaker::libvirt_header(0, "<domain>with a name</domain>") + StreamMaker::small().bytes);
        CHECK(content(read_image(open_source(saved))) == content(plain));

        folder.write("saved", header + folder.read("compressed").substr(0, folder.read("compressed").size() / 2));
        CHECK(said(saved).starts_with(
            fmt::format("{}: {} cannot read what is compressed from byte {} on: ", saved, program, header.size())));
    }
    CHECK(tried >= 3);
    // No such program in an empty folder.
    folder.write("saved", StreamMaker::libvirt_header(3) + "x");
    const Variable path("PATH", folder.path());
    CHECK(said(folder / "saved") == "xz is not there, with which the memory was compressed: install the package xz-utils");
}

TEST_CASE("virsh save: what is refused, and the line") {
    const std::string stream = StreamMaker::small().bytes, good = StreamMaker::libvirt_header(0);
    CHECK(refused(StreamMaker::libvirt_header(0, "<domain/>", "LibvirtQemudPart") + stream).message ==
          "was cut off: libvirt did not complete it; save the machine again");
    for (std::size_t n = 16; n < good.size() + 3; n += 7) CHECK(refused(good.substr(0, n)).code == Exit::damaged);
    CHECK(refused(good).message ==
          fmt::format("at byte {} is no migration stream of QEMU, expected \"QEVM\" behind the header of libvirt", good.size()));
    CHECK(refused(StreamMaker::libvirt_header(7) + stream).message == "has the format number 7 of libvirt, expected at most 6");
    CHECK(refused(StreamMaker::small_mapped(good).bytes).message ==
          "the header of libvirt says that the stream is without mapped-ram, but it is with");
    CHECK(refused(StreamMaker::libvirt_header(6) + stream).message ==
          "the header of libvirt says that the stream is with mapped-ram, but it is without");
    const auto with = [&](std::size_t at, char value) {
        std::string bytes = good + stream;
        bytes[at] = value;
        return refused(bytes);
    };
    CHECK(with(16, 1).message == "has version 1 of libvirt's file, expected 2");
    CHECK(with(23, '\x7f').code == Exit::damaged);                                             // more XML than there are bytes
    CHECK(with(35, '\x7f').message.find("with a cookie at 2130706432") != std::string::npos);  // outside the XML
    CHECK(with(20, 0).code == Exit::damaged);                                                  // other XML, then no stream
}

TEST_CASE("pipes: memory is kept in a file without a name, where TMPDIR says") {
    const Folder folder;
    const std::string stream = folder.write("stream", StreamMaker::small().bytes), pipe = folder / "pipe";
    const auto through_pipe = [&] {
        test::must("rm -f " + pipe + "; mkfifo " + pipe);
        test::must("(timeout 20 cat " + stream + " >" + pipe + ") >/dev/null 2>&1 & true");
        return pipe;
    };
    {
        const Variable where("TMPDIR", folder.path());
        CHECK(content(read_image(open_source(through_pipe()))) == content(read_image(Source(File(stream)))));
        CHECK(test::must("ls " + folder.path()) == "pipe\nstream\n");
    }
    const Variable nowhere("TMPDIR", folder / "none");
    CHECK(said(through_pipe()) ==
          fmt::format("{0}/none: cannot make a file for what comes from {0}/pipe: No such file or directory; name "
                      "another folder with TMPDIR",
                      folder.path()));
}

}  // namespace dmchain::guest
