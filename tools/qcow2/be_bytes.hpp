// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes of an image in the making: numbers as the format has them, big-endian.
#pragma once

#include <endian.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dmchain::qcow2 {

// All zero at first. @at: bytes from the beginning.
class BeBytes {
public:
    explicit BeBytes(std::size_t bytes) : bytes_(bytes) {}

    void put8(std::size_t at, unsigned char v) { bytes_[at] = v; }
    void put16(std::size_t at, std::uint16_t v) { put(at, htobe16(v)); }
    void put32(std::size_t at, std::uint32_t v) { put(at, htobe32(v)); }
    void put64(std::size_t at, std::uint64_t v) { put(at, htobe64(v)); }
    void put_text(std::size_t at, const std::string& s) { std::memcpy(&bytes_[at], s.data(), s.size()); }

    const unsigned char* data() const { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }

private:
    template <typename T>
    void put(std::size_t at, T v) {
        std::memcpy(&bytes_[at], &v, sizeof v);
    }
    std::vector<unsigned char> bytes_;
};

}  // namespace dmchain::qcow2
