// SPDX-License-Identifier: GPL-2.0-or-later
// editchain FILE FROM TO: in the chain file FILE, the path FROM becomes TO, which is as long, and FILE is one that lies where it
// was built; checksums are right afterwards. For tests that come to a layer by another name.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "chain/chain_file.hpp"

int main(int argc, char** argv) {
    try {
        if (argc != 4 || std::strlen(argv[2]) != std::strlen(argv[3])) throw std::runtime_error("usage: editchain FILE FROM TO");
        const dmchain::chain::ChainFile file{dmchain::File(argv[1])};
        chain_super s = file.super();
        const std::uint64_t at = chain_le64(s.layer_offset);
        std::vector<char> table(chain_le32(s.layer_count) * sizeof(chain_layer) + chain_le32(s.string_bytes));
        file.file().read(table.data(), table.size(), at);
        const std::string from = argv[2];
        const auto place = std::search(table.begin(), table.end(), from.c_str(), from.c_str() + from.size() + 1);
        if (place == table.end()) throw std::runtime_error(from + " is not there");
        std::copy_n(argv[3], from.size(), place);
        s.layer_crc = htole32(chain_crc32c_more(0, table.data(), table.size()));
        s.self_inode = htole64(file.file().identity().inode);
        s.crc = 0;
        s.crc = htole32(chain_crc32c_more(0, &s, sizeof s));
        std::fstream out(argv[1], std::ios::in | std::ios::out | std::ios::binary);
        out.seekp(static_cast<std::streamoff>(at)).write(table.data(), static_cast<std::streamsize>(table.size()));
        out.seekp(static_cast<std::streamoff>(file.super_at())).write(reinterpret_cast<const char*>(&s), sizeof s);
        if (!out.flush()) throw std::runtime_error("cannot write");
    } catch (const std::exception& e) {
        fmt::print(stderr, "editchain: {}\n", e.what());
        return 1;
    }
}
