// SPDX-License-Identifier: GPL-2.0-or-later
// The file that libvirt makes for 'virsh save' and 'virsh managedsave': a header, the definition of the machine in XML, then a
// migration stream, compressed or not. Source: libvirt's src/qemu/qemu_saveimage.h.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "guest/source.hpp"

namespace dmchain::guest {

struct LibvirtFile {
    std::uint64_t stream;           // byte of the file where the stream begins
    bool mapped = false;            // it is one with mapped-ram
    const char* program = nullptr;  // what takes the compression off; nullptr: there is none
};

// nullopt: it is none. Throws failed() for what is not known, damaged() for one that libvirt did not complete.
std::optional<LibvirtFile> read_libvirt(const Source& source);

// All that comes before the stream, changed to say that the stream is not compressed.
std::vector<unsigned char> uncompressed_header(const Source& source, const LibvirtFile& file);

}  // namespace dmchain::guest
