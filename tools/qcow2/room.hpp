// SPDX-License-Identifier: GPL-2.0-or-later
// Which clusters of an image are in use, and where there is room for more. For seal.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dmchain::qcow2 {

class Room {
public:
    // @most: clusters that the image can have at all: a device's. Files grow.
    Room(std::uint32_t cluster_bits, std::uint64_t most, std::string name)
        : cluster_bits_(cluster_bits), most_(most), name_(std::move(name)) {}

    void use(std::uint64_t offset, std::uint64_t bytes);
    // From here on no cluster below this byte is given away by get(), unless there are no others.
    void begin_at(std::uint64_t offset) { next_ = offset >> cluster_bits_; }
    // Byte of @count free clusters in a row, in use from now on. Throws failed() if a device has none.
    std::uint64_t get(std::uint64_t count = 1);
    void release(std::uint64_t offset, std::uint64_t count);

    bool used(std::uint64_t cluster) const { return cluster < used_.size() && used_[cluster]; }
    std::uint64_t clusters() const { return used_.size(); }  // up to the last one in use

private:
    std::uint64_t find(std::uint64_t from, std::uint64_t to, std::uint64_t count) const;

    std::uint32_t cluster_bits_;
    std::uint64_t most_;
    std::string name_;
    std::vector<bool> used_;
    std::uint64_t next_ = 0;  // cluster
};

}  // namespace dmchain::qcow2
