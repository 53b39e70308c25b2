// SPDX-License-Identifier: GPL-2.0-or-later
// See open.hpp.
#include "guest/open.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "device/subject.hpp"
#include "guest/decompress.hpp"
#include "guest/libvirt.hpp"
#include "guest/spool.hpp"
#include "guest/vm_state.hpp"
#include "io/error.hpp"
#include "io/text.hpp"
#include "qcow2/header.hpp"

namespace dmchain::guest {

namespace {

File spooled(int fd, const std::string& name) {
    Spool spool(name);
    spool.append_from(fd);
    return spool.finish();
}

File open_input() {
    const std::string name = "standard input";
    if (::isatty(STDIN_FILENO)) throw failed("{}: is a terminal, expected the memory of a guest: name a file", name);
    struct stat st {};
    // A file that was redirected is read in place.
    if (::fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode) && ::lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
        return {::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0), name};
    return spooled(STDIN_FILENO, name);
}

File open_file(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0 || !S_ISFIFO(st.st_mode)) return File(path);
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw failed("{}: cannot open for reading: {}", escaped(path), std::strerror(errno));
    const File pipe(fd, path);
    return spooled(pipe.fd(), path);
}

}  // namespace

Source open_source(const std::string& what) {
    const device::At at = device::split_at(what);
    if (at.snapshot) return open_vm_state(File(at.what), at.snapshot);
    File file = what == "-" ? open_input() : open_file(what);
    if (qcow2::has_magic(file)) return open_vm_state(std::move(file), std::nullopt);
    Source source(std::move(file));
    const auto saved = read_libvirt(source);
    if (!saved || !saved->program) return source;
    Spool spool(source.name());
    const auto header = uncompressed_header(source, *saved);
    spool.append(header.data(), header.size());
    decompress(saved->program, source.file(0), saved->stream, spool);
    return Source(spool.finish());
}

}  // namespace dmchain::guest
