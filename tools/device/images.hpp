// SPDX-License-Identifier: GPL-2.0-or-later
// The images of a chain as the commands that change chains see them: whether a device has it or not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/subject.hpp"
#include "qcow2/label.hpp"

namespace dmchain::device {

struct ChainImage {
    enum class State { sealed, frozen, active, growing };  // frozen: and not sealed yet; growing: a merge adds to it

    std::string path;  // absolute, symlinks as they are
    Identity identity;
    State state = State::sealed;
    bool raw = false;
    bool is_part = false;  // raw: of its file
    bool has_data_file = false;
    std::string holds_more;          // why it is neither merged nor pruned: QEMU keeps something in it beside its disk; or ""
    std::uint64_t virtual_size = 0;  // bytes
    std::uint64_t file_used = 0;     // bytes on disk, the data file's not
    std::optional<qcow2::Label> label{};
    std::optional<std::uint16_t> id{};  // in the chain file of the device, if there is one

    std::int64_t time() const { return label ? label->time : identity.mtime_sec; }  // when it was frozen
};

// Base first. @chain: as Subject::open() opened it. Throws failed() if the headers name other files than the device has.
std::vector<ChainImage> images_of(const Subject& subject, const qcow2::Chain& chain);

// Which of the images @text means: see chain/points.hpp.
std::size_t find_image(const std::vector<ChainImage>& images, const std::string& text);

// Its number. Throws failed() if there is none; @name is what messages call the chain.
std::size_t topmost_sealed(const std::vector<ChainImage>& images, const std::string& name);

// "123456 bytes on disk" of the file; 0 if it is not there.
std::uint64_t bytes_on_disk(const std::string& path);

}  // namespace dmchain::device
