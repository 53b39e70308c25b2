// SPDX-License-Identifier: GPL-2.0-or-later
// usage: nth-allocation N load NAME SECTORS PARAMETERS
//        nth-allocation N resume|suspend NAME
//        nth-allocation N message NAME TEXT
//
// One request to device-mapper for a device of type chain, in which the N-th allocation of memory fails (kernel:
// Documentation/fault-injection, /proc/self/fail-nth; N 0: none). Exit status: 0 it succeeded and had fewer
// allocations, 3 it succeeded although one failed, 4 it failed after one failed; 1 it failed by itself. What is to be
// set up for this under /sys/kernel/debug is the caller's. Called by tests/target/alloc-faults, in a test machine.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "nth-allocation: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 3 ? argv[2] : "";
    if (!(what == "load" && argc == 6) && !(what == "message" && argc == 5) &&
        !((what == "resume" || what == "suspend") && argc == 4)) {
        std::fprintf(stderr,
                     "usage: nth-allocation N load NAME SECTORS PARAMETERS | resume NAME | suspend NAME | message NAME TEXT\n");
        return 2;
    }
    std::vector<char> buffer(16384);
    dm_ioctl head{};
    head.version[0] = DM_VERSION_MAJOR;
    head.data_size = static_cast<std::uint32_t>(buffer.size());
    head.data_start = sizeof head;
    std::snprintf(head.name, sizeof head.name, "%s", argv[3]);
    unsigned long request = DM_DEV_SUSPEND;
    char* data = buffer.data() + sizeof head;
    if (what == "suspend") {
        head.flags = DM_SUSPEND_FLAG;
    } else if (what == "load") {
        request = DM_TABLE_LOAD;
        head.target_count = 1;
        dm_target_spec spec{};
        spec.length = std::strtoull(argv[4], nullptr, 10);
        std::snprintf(spec.target_type, sizeof spec.target_type, "chain");
        std::memcpy(data, &spec, sizeof spec);
        std::snprintf(data + sizeof spec, buffer.size() - sizeof head - sizeof spec, "%s", argv[5]);
    } else if (what == "message") {
        request = DM_TARGET_MSG;
        std::snprintf(data + sizeof(dm_target_msg), buffer.size() - sizeof head - sizeof(dm_target_msg), "%s", argv[4]);
    }
    std::memcpy(buffer.data(), &head, sizeof head);

    const int control = ::open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    const int nth = ::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
    if (control < 0 || nth < 0) die(control < 0 ? "/dev/mapper/control" : "/proc/thread-self/fail-nth");
    if (::write(nth, argv[1], std::strlen(argv[1])) < 0) die("setting fail-nth");
    const int result = ::ioctl(control, request, buffer.data());
    const int error = errno;
    char left[16] = "";
    if (::pread(nth, left, sizeof left - 1, 0) < 0) die("reading fail-nth");
    if (::write(nth, "0", 1) < 0) die("setting fail-nth");
    const bool failed_one = std::strtoul(argv[1], nullptr, 10) > 0 && std::strtoul(left, nullptr, 10) == 0;
    if (result == 0) return failed_one ? 3 : 0;
    if (failed_one) return 4;
    errno = error;
    die(what);
}
