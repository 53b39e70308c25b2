// SPDX-License-Identifier: GPL-2.0-or-later
// See vm_state.hpp.
#include "guest/vm_state.hpp"

#include <fcntl.h>

#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "qcow2/image.hpp"

namespace dmchain::guest {

namespace {

std::string list_of(const std::vector<qcow2::Snapshot>& snapshots) {
    std::string out;
    for (const qcow2::Snapshot& s : snapshots)
        if (s.vm_state_bytes) out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", escaped(s.id), in_quotes(s.name));
    return out.empty() ? "none" : out;
}

// The one that is meant.
std::string choose(const File& file, const qcow2::Header& header) {
    qcow2::Faults faults;
    const auto table = qcow2::read_snapshots(file, header, faults);
    std::vector<const qcow2::Snapshot*> found;
    for (const qcow2::Snapshot& s : table.snapshots)
        if (s.vm_state_bytes) found.push_back(&s);
    const std::string name = escaped(file.path());
    if (found.empty()) throw failed("{}: has no internal snapshot with the state of a machine, as savevm makes them", name);
    if (found.size() > 1)
        throw failed("{}: has several internal snapshots with the state of a machine: {}; name one, as {}@{}", name,
                     list_of(table.snapshots), name, escaped(found.back()->name));
    return found.front()->id;
}

}  // namespace

Source open_vm_state(File file, const std::optional<std::string>& snapshot) {
    const std::string name = escaped(file.path());
    require_image_lock(file.fd(), file.path(), ImageUse::read);
    qcow2::Header header = qcow2::read_header(file);
    if (header.has_data_file()) throw failed("{}: has an external data file, from which no state of a machine is read", name);
    const std::string wanted = snapshot ? *snapshot : choose(file, header);
    Source source(file.path());
    const int fd = file.fd();
    qcow2::Faults faults;
    const qcow2::Image image(std::move(file), std::move(header), std::nullopt, wanted, faults);
    if (image.vm_state_bytes() == 0)
        throw failed("{}: the internal snapshot {} has no state of a machine in it: it is of the disk alone; with one: {}", name,
                     in_quotes(wanted), list_of(image.snapshots()));

    // None of it is holes: that also bounds what is allocated for it.
    if (image.vm_state_bytes() > image.file().size())
        throw damaged("{}: says that the state of the machine in snapshot {} has {} bytes, expected at most the file's {}", name,
                      in_quotes(wanted), image.vm_state_bytes(), image.file().size());

    qcow2::Scratch scratch;
    const std::size_t number = source.hold(File(::fcntl(fd, F_DUPFD_CLOEXEC, 0), image.file().path()));
    image.map_vm_state(scratch, [&](const qcow2::Extent& e) {
        source.add_zeroes(e.guest - source.size());
        if (e.kind == qcow2::Kind::compressed)
            throw failed("{}: the state of the machine is compressed at byte {:#x} of it, expected it as it is", name, e.guest);
        if (e.kind == qcow2::Kind::data)
            source.add(number, e.host, e.bytes);
        else
            source.add_zeroes(e.bytes);
    });
    source.add_zeroes(image.vm_state_bytes() - source.size());
    return source;
}

}  // namespace dmchain::guest
