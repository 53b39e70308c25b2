// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a sealed layer of what is given to it, in the order of the disk. The file is written as an active layer is (data, then a
// log that says where), and sealed: until then no program takes it for an image.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "qcow2/label.hpp"
#include "qcow2/log.hpp"

namespace dmchain::chain {

struct NewLayer {
    std::string path;            // must not exist
    std::uint64_t size = 0;      // of the virtual disk, bytes, a multiple of 512
    std::string backing_name{};  // as it is to stand in the header; "": none
    std::optional<qcow2::Label> label{};
    std::optional<qcow2::LogId> id{};  // that it will have (point_id.hpp)
    std::uint64_t clusters = 0;        // of 64 KiB, that it defines, all or in part, at the most
};

class LayerWriter {
public:
    static constexpr std::uint64_t unit_bytes = 4096;

    explicit LayerWriter(const NewLayer& layer);
    ~LayerWriter();

    // @start: a multiple of unit_bytes, ascending; @bytes: too, but at the end of the disk.
    void data(std::uint64_t start, const void* bytes, std::uint64_t count);
    void zero(std::uint64_t start, std::uint64_t count);
    // Durable, name and all, when this returns.
    void finish();

private:
    class Work;
    const std::string path_;
    std::unique_ptr<Work> work_;
};

}  // namespace dmchain::chain
