// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer target: the input is the bytes of the image on top of a chain, which is opened, mapped, read and
// checked. Its last byte chooses options. Whatever the bytes, the extents must keep their promises
// (extent.hpp), and a message must be one line.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "chain/disk.hpp"
#include "qcow2/check.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/survey.hpp"
#include "support/folder.hpp"
#include "support/image_maker.hpp"

namespace {

using namespace dmchain;
using namespace dmchain::qcow2;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "promise broken: %s\n", what);
    std::abort();
}

void require_one_line(const std::string& message) {
    require(!message.empty(), "a message says something");
    for (char c : message) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f, "a message has no control bytes");
}

// The folder that the images are in, with a good backing file and a data file.
const test::Folder& folder() {
    static const auto made = [] {
        ::setenv("TMPDIR", "/dev/shm", 0);
        ::setenv("DMCHAIN_CONF", "/dev/null", 1);
        auto f = std::make_unique<test::Folder>();
        f->write("base.qcow2", test::Maker().bytes);
        f->write("data.raw", std::string(60000, 'd'));
        return f;
    }();
    return *made;
}

void write_image(const std::string& path, const std::uint8_t* data, std::size_t size, std::uint64_t end) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && ::write(fd, data, size) == static_cast<ssize_t>(size) && ::ftruncate(fd, static_cast<off_t>(end)) == 0,
            "the image can be written");
    ::close(fd);
}

void walk(const Layer& layer, std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t limit = std::min(end, layer.virtual_size());
    std::uint64_t next = begin;
    Scratch scratch;
    layer.map(begin, end, scratch, [&](const Extent& e) {
        require(e.guest >= next && e.bytes > 0 && e.bytes <= limit - e.guest, "ascending, within the range and the disk");
        require(e.guest % 512 == 0 && e.bytes % 512 == 0, "whole sectors");
        next = e.guest + e.bytes;
        if (e.kind == Kind::zero) require(e.host == 0 && e.host_bytes == 0, "zero has no place");
        if (e.kind == Kind::data) {
            const File& file = layer.data_file() ? *layer.data_file() : layer.file();
            const std::uint64_t size = (file.size() + (2u << 20)) & ~std::uint64_t{511};
            require(e.host % 512 == 0 && e.host < size && e.bytes <= size - e.host,
                    "data is in the file, but for a last cluster");
        }
        if (e.kind == Kind::compressed)
            require(e.host_bytes > 0 && e.host < layer.file().size() && e.host_bytes <= layer.file().size() - e.host,
                    "compressed data is in the file");
    });
}

void use(const std::string& path, const ChainOptions& options) {
    Chain chain(path, options);
    require(chain.virtual_size() % 512 == 0, "the disk is whole sectors");
    const std::uint64_t size = chain.virtual_size();
    for (const auto& layer : chain.layers()) {
        walk(*layer, 0, size);
        walk(*layer, std::min(size, std::uint64_t{512} * 7), std::min(size, std::uint64_t{1} << 20) & ~std::uint64_t{511});
    }
    if (size < std::uint64_t{1} << 50) (void)survey(chain, [](std::uint64_t) {});
    Reader reader(chain);
    chain::Disk::Reader indexed(std::make_shared<chain::Disk>(chain, chain.layers().size() - 1));
    std::vector<char> buffer(1 << 16), same(1 << 16);
    const auto read = [&](std::uint64_t at) {
        reader.read(buffer.data(), buffer.size(), at);
        indexed.read(same.data(), same.size(), at);
        require(buffer == same, "what is read layer by layer and by an index is the same");
    };
    for (std::uint64_t at = 0; at < size && at < 1 << 20; at += buffer.size()) read(at + 1);
    read(size - std::min<std::uint64_t>(size, 60000));
}

void check(const std::string& path, const ChainOptions& options) {
    Faults faults(Faults::Mode::collect);
    Chain chain(path, options, faults);
    for (const auto& layer : chain.layers()) check_layer(*layer, faults, [](std::uint64_t) {});
    for (const Faults::Line& line : faults.lines()) require_one_line(line.text());
    if (chain.stopped()) require_one_line(chain.stopped()->what());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string path = folder() / "top.qcow2";
    const unsigned choice = data[size - 1];
    // Either just the bytes, or followed by a hole: tables of large clusters fit into it.
    write_image(path, data, size, choice & 1 ? std::max<std::uint64_t>(size, 5u << 20) : size);
    ChainOptions options;
    options.assume_raw = choice & 2;
    if (choice & 4) options.snapshot = "1";
    options.ignore_corrupt = choice & 8;
    for (auto* run : {use, check}) {
        try {
            run(path, options);
        } catch (const Error& e) {
            require_one_line(e.what());
        }
    }
    return 0;
}
