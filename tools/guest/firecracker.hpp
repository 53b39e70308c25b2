// SPDX-License-Identifier: GPL-2.0-or-later
// Memory of a Firecracker microVM: a file that has memory as it is, all of what is below 3 GiB and then what is from 4 GiB on;
// and files with what changed since, in which the rest is holes. The state of its devices is in a file of its own. Source:
// Firecracker's docs/snapshotting/snapshot-support.md, src/vmm/src/arch/x86_64/layout.rs.
#pragma once

#include <string>
#include <vector>

#include "guest/image.hpp"
#include "guest/writer.hpp"

namespace dmchain::guest {

// @diffs: in the order in which they were made. @state: file with the state of the devices; "": without it. Nothing in the files
// says what they are. Throws failed() if it cannot be.
Image read_firecracker(File memory, const std::vector<std::string>& diffs, const std::string& state, const Seen& seen = {},
                       const Done& progress = {});

// Throws failed() if it is the state of a microVM.
void refuse_firecracker_state(const Source& source);

// The memory; what else there is goes to @state.
class FirecrackerWriter : public ImageWriter {
public:
    FirecrackerWriter(Put memory, Put state) : memory_(std::move(memory)), state_(std::move(state)) {}

    void other(const void* data, std::size_t bytes, std::uint64_t at) override;
    void begin_pages() override {}
    void page(std::size_t block, std::uint64_t page, const unsigned char* data) override;
    void end_pages() override {}

private:
    Put memory_, state_;
    std::uint64_t at_ = 0;
};

}  // namespace dmchain::guest
