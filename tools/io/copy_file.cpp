// SPDX-License-Identifier: GPL-2.0-or-later
// See copy_file.hpp.
#include "io/copy_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "io/file.hpp"
#include "io/pace.hpp"
#include "io/writable.hpp"

namespace dmchain {

bool copy_file(const std::string& from, const std::string& to, std::uint64_t rate, const std::function<bool()>& stop,
               const std::function<void(std::uint64_t)>& progress) {
    const File in(from);
    Writable out = Writable::create(to);
    out.resize(in.size());
    ::posix_fadvise(in.fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
    std::vector<char> buffer(std::size_t{4} << 20);
    Pace pace(rate);
    for (std::uint64_t at = 0; at < in.size();) {
        const off_t data = ::lseek(in.fd(), static_cast<off_t>(at), SEEK_DATA);
        if (data < 0) break;  // a hole up to the end
        at = static_cast<std::uint64_t>(data);
        const off_t hole = ::lseek(in.fd(), data, SEEK_HOLE);
        const std::uint64_t end = hole < 0 ? in.size() : static_cast<std::uint64_t>(hole);
        for (std::uint64_t n; at < end; at += n) {
            if (stop && stop()) return false;
            n = std::min<std::uint64_t>(buffer.size(), end - at);
            in.read(buffer.data(), n, at);
            out.write(buffer.data(), n, at);
            if (progress) progress(at + n);
            pace.add(n);
        }
    }
    struct stat st {};
    if (::fstat(in.fd(), &st) == 0) {
        const timespec times[2] = {st.st_atim, st.st_mtim};
        ::fchmod(out.fd(), st.st_mode & 07777);
        if (::fchown(out.fd(), st.st_uid, st.st_gid) != 0) {}  // as another user's it can be read all the same
        ::futimens(out.fd(), times);
    }
    out.sync();
    return true;
}

}  // namespace dmchain
