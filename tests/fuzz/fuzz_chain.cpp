// SPDX-License-Identifier: GPL-2.0-or-later
// libFuzzer target: the input is the bytes of a chain file. Its checksums are made right before it is read, as
// far as its own lengths allow, so that what lies behind them is met, too: the validators are the kernel's.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "chain/chain_file.hpp"
#include "io/error.hpp"

namespace {

using namespace dmchain;

template <typename T>
T get(const std::string& s, std::size_t at) {
    T v;
    std::memcpy(&v, s.data() + at, sizeof v);
    return v;
}

template <typename T>
void put(std::string& s, std::size_t at, T v) {
    std::memcpy(s.data() + at, &v, sizeof v);
}

// Checksum of every node that begins at a multiple of 512, of the layer table, then of the superblock.
void seal(std::string& s) {
    for (std::size_t at = 0; at + sizeof(chain_node) <= s.size(); at += 512) {
        const auto n = get<chain_node>(s, at);
        if (chain_le32(n.magic) != CHAIN_NODE_MAGIC) continue;
        const std::uint64_t length = chain_node_aux_at(n.form, chain_le16(n.count_minus_1) + 1u) + 8ull * chain_le32(n.aux_words);
        if (length <= s.size() - at) put(s, at + 4, chain_crc32c_more(0, s.data() + at + 8, length - 8));
    }
    for (std::size_t copy = 0; copy + sizeof(chain_super) <= s.size() && copy <= CHAIN_SUPER_BYTES; copy += CHAIN_SUPER_BYTES) {
        const auto super = get<chain_super>(s, copy);
        const std::uint64_t at = chain_le64(super.layer_offset);
        const std::uint64_t length =
            std::uint64_t{chain_le32(super.layer_count)} * sizeof(chain_layer) + chain_le32(super.string_bytes);
        if (at <= s.size() && length <= s.size() - at)
            put(s, copy + offsetof(chain_super, layer_crc), chain_crc32c_more(0, s.data() + at, length));
        put<std::uint32_t>(s, copy + offsetof(chain_super, crc), 0);
        put(s, copy + offsetof(chain_super, crc), chain_crc32c_more(0, s.data() + copy, sizeof(chain_super)));
    }
}

void read_all(const std::string& bytes) {
    const int fd = ::memfd_create("chain", MFD_CLOEXEC);
    if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
    try {
        const chain::ChainFile file{File(fd, "input.chain")};
        for (const auto& layer : file.layers()) {
            const std::string path = file.path(layer);
            if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos) std::abort();
        }
        file.verify_index();
    } catch (const Error& e) {
        const std::string message = e.what();
        if (message.empty() || message.find('\n') != std::string::npos) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    read_all(bytes);
    seal(bytes);
    read_all(bytes);
    return 0;
}
