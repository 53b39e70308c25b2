// SPDX-License-Identifier: GPL-2.0-or-later
// To be preloaded: every file system says that it has all the room in the world, so that commands that look first begin all the same.
// For tests/target/full.
#include <dlfcn.h>
#include <sys/statvfs.h>

extern "C" int statvfs64(const char* path, struct statvfs64* out) {
    static const auto real = reinterpret_cast<int (*)(const char*, struct statvfs64*)>(::dlsym(RTLD_NEXT, "statvfs64"));
    const int result = real(path, out);
    out->f_bavail = out->f_bfree = 1ull << 40;
    return result;
}
