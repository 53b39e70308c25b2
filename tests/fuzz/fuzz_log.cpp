// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer target: the input is what stands behind the header of a layer in use: its log and what it names. The
// checksums are made right before it is read once more, so that what lies behind them is met, too: the validators are
// the kernel's. What can be read is sealed, and must then read the same.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "qcow2/active.hpp"
#include "qcow2/check.hpp"
#include "qcow2/reader.hpp"
#include "qcow2/seal.hpp"
#include "support/active_maker.hpp"

namespace {

using namespace dmchain;
using namespace dmchain::qcow2;

constexpr unsigned bits = 12;
constexpr std::size_t cluster = 1u << bits;
constexpr std::uint64_t disk = 64 * cluster;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "promise broken: %s\n", what);
    std::abort();
}

struct Place {
    Place() {
        ::setenv("TMPDIR", "/dev/shm", 0);
        folder = std::make_unique<test::Folder>();
        std::ofstream(*folder / "base.raw") << std::string(disk, 'b');
        make_active(*folder / "layer", {disk, bits, 9, "base.raw", "raw"});
        header = folder->read("layer").substr(0, cluster);
    }
    std::unique_ptr<test::Folder> folder;
    std::string header;
};

const Place& place() {
    static const Place made;
    return made;
}

// Salt and checksum of each block, the head's too.
void make_right(std::string& s) {
    const auto put32 = [&](std::size_t at, std::uint32_t v) { std::memcpy(&s[at], &v, sizeof v); };
    if (s.size() < 2 * cluster) return;
    put32(cluster + 12, 0);
    put32(cluster + 12, chain_crc32c_more(0, &s[cluster], 4096));
    for (std::size_t at = 2 * cluster; at + 4096 <= s.size(); at += 4096) {
        if (s.compare(at, 4, "DCML") != 0) continue;
        std::memcpy(&s[at + 8], &s[cluster + 16], 8);
        put32(at + 4, chain_crc32c_more(0, &s[at + 8], 4096 - 8));
    }
}

std::string read_all(const std::string& path, bool in_use) {
    ChainOptions options;
    options.in_use = in_use;
    const Chain chain(path, options);
    const std::uint64_t size = chain.virtual_size();
    if (size > 64u << 20) throw failed("too large to compare");
    std::string out(size, '\0');
    Reader reader(chain);
    if (size) reader.read(out.data(), out.size(), 0);
    Faults faults(Faults::Mode::collect);
    check_layer(chain.top(), faults, [](std::uint64_t) {});
    require(faults.count() == 0, "a layer that is read has no faults");
    return out;
}

void use(const std::string& bytes) {
    const std::string path = place().folder->write("layer", bytes);
    try {
        const std::string before = read_all(path, true);
        SealOptions o;
        o.fill = bytes.back() & 1;
        if (before.empty()) return;
        seal(path, o);
        require(read_all(path, false) == before, "sealed it reads the same");
        require(seal(path, o).was_sealed, "it is sealed then");
    } catch (const Error& e) {
        const std::string message = e.what();
        require(!message.empty() && message.find('\n') == std::string::npos, "a message is one line");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    std::string bytes = place().header + std::string(reinterpret_cast<const char*>(data), size);
    use(bytes);
    make_right(bytes);
    use(bytes);
    return 0;
}
