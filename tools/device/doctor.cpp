// SPDX-License-Identifier: GPL-2.0-or-later
// See doctor.hpp. One function for each subject; the order is that in which things are needed.
#include "device/doctor.hpp"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "chain/places.hpp"
#include "dm/device.hpp"
#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/machine.hpp"
#include "io/text.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/policy.hpp"

namespace dmchain::device {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t usual_files = 1000;    // of a chain, if none is named
constexpr std::uint64_t little = 1024u << 20;  // bytes: the target's own default for its event

class Examination {
public:
    explicit Examination(std::string root) : root_(std::move(root)), kernel_(dm::look_at_kernel(root_)) {}

    std::vector<Finding> run(const std::vector<std::string>& chains) {
        look_at_kernel();
        look_at_device_mapper();
        look_at_target();
        look_at_signatures();
        look_at_udev();
        look_at_machine_id();
        look_at_configuration();
        for (const std::string& c : chains) look_at_chain(c);
        look_at_open_files();
        if (chains.empty()) folders_.insert(fs::current_path().string());
        for (const std::string& f : folders_) look_at_room(f);
        return std::move(findings_);
    }

private:
    void add(const std::string& subject, Level level, const std::string& found, const std::string& advice = "") {
        findings_.push_back({subject, level, found, advice});
    }
    bool exists(const std::string& path) const {
        std::error_code none;
        return fs::exists(root_ + path, none);
    }

    void look_at_kernel() {
        unsigned major = 0, minor = 0;
        const std::string found = "Linux " + escaped(kernel_.release);
        std::sscanf(kernel_.release.c_str(), "%u.%u", &major, &minor);
        const auto version = std::pair(major, minor);
        if (version < std::pair(6u, 1u))
            add("kernel", Level::wrong, found, "start Linux 6.1 or newer: dm-chain cannot be built for it");
        else if (version > std::pair(6u, 12u))
            add("kernel", Level::warning, found,
                "try it with disks that may be lost first: dm-chain is tested with Linux 6.1 to 6.12");
        else
            add("kernel", Level::ok, found);
    }

    void look_at_device_mapper() {
        const char* subject = "device-mapper";
        const auto lack = dm::lack_of_device_mapper(kernel_);
        if (kernel_.device_mapper == dm::Module::available)
            add(subject, Level::ok, "a module, which is loaded when it is needed");
        else if (!lack)
            add(subject, Level::ok, kernel_.version ? "version " + dm::to_string(*kernel_.version) : "there");
        else
            add(subject, kernel_.device_mapper == dm::Module::loaded && !kernel_.root ? Level::warning : Level::wrong,
                lack->found, lack->advice);
    }

    void look_at_target() {
        const char* subject = "dm-chain";
        if (kernel_.chain == dm::Module::missing) {
            const auto lack = dm::lack_of_target(kernel_, std::nullopt);
            add(subject, Level::wrong, lack->found, lack->advice);
        } else if (kernel_.chain == dm::Module::available) {
            add(subject, Level::ok, "a module, which is loaded when it is needed");
        } else if (!kernel_.version) {
            add(subject, Level::ok, "loaded");
        } else {
            const auto version = dm::loaded_target();
            if (const auto lack = dm::lack_of_target(kernel_, version))
                add(subject, Level::wrong, lack->found, lack->advice);
            else
                add(subject, Level::ok,
                    fmt::format("loaded, version {}; this is dmchain {}", dm::to_string(*version), DMCHAIN_VERSION));
        }
    }

    void look_at_signatures() {
        const char* subject = "Secure Boot";
        std::ifstream in(root_ + "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::ios::binary);
        std::array<char, 5> value{};  // four bytes of attributes, then 1 for on
        const bool on = in.read(value.data(), value.size()) && value[4] == 1;
        const std::string state = on ? "on" : exists("/sys/firmware/efi") ? "off" : "none: the machine was not started by UEFI";
        if (!kernel_.signed_only)
            add(subject, Level::ok, state + "; modules need no signature");
        else if (kernel_.chain == dm::Module::loaded)
            add(subject, Level::ok, state + "; modules must be signed, and dm-chain is loaded");
        else
            add(subject, Level::warning, state + "; modules must be signed, and dm-chain is not loaded",
                "'modprobe dm-chain' says whether it is signed; DKMS signs it with a key that the firmware must know: "
                "'mokutil --import /var/lib/dkms/mok.pub', then restart");
    }

    void look_at_udev() {
        const char* subject = "udev";
        // dmchain waits until the rules of device-mapper have run, as dmsetup does.
        const bool rules = exists("/usr/lib/udev/rules.d/95-dm-notify.rules") || exists("/lib/udev/rules.d/95-dm-notify.rules") ||
                           exists("/etc/udev/rules.d/95-dm-notify.rules");
        if (!exists("/run/udev/control"))
            add(subject, Level::ok, "does not run: dmchain makes the names in /dev/mapper itself");
        else if (std::getenv("DM_DISABLE_UDEV"))
            add(subject, Level::warning, "runs, but DM_DISABLE_UDEV is set: it and dmchain both make names in /dev",
                "unset DM_DISABLE_UDEV");
        else if (!rules)
            add(subject, Level::wrong,
                "runs without the rules of device-mapper (95-dm-notify.rules): dmchain would wait for ever",
                "install the package dmsetup");
        else
            add(subject, Level::ok, "runs, with the rules of device-mapper");
    }

    void look_at_machine_id() {
        try {
            add("machine id", Level::ok, machine_id());
        } catch (const Error&) {
            add("machine id", Level::wrong,
                "/etc/machine-id has none: a device that can be written needs one, for its layers say whose they are",
                "run 'systemd-machine-id-setup'");
        }
    }

    void look_at_configuration() {
        const char* subject = "configuration";
        const std::string file = qcow2::configuration_file();
        try {
            const std::vector<std::string> allowed = qcow2::configured();
            std::error_code none;
            std::size_t missing = 0;
            for (const std::string& path : allowed) {
                if (path == "none" || fs::exists(path, none)) continue;
                missing++;
                add(subject, Level::warning, fmt::format("{} allows {}, which is not there", escaped(file), in_quotes(path)),
                    "make it, or take the line away");
            }
            if (missing) return;
            add(subject, Level::ok,
                fs::exists(file, none)
                    ? fmt::format("{}: {} line{}", escaped(file), allowed.size(), allowed.size() == 1 ? "" : "s")
                    : fmt::format("{} is not there: images may name what lies in their own folder", escaped(file)));
        } catch (const Error& e) {
            add(subject, Level::wrong, e.what(), "correct the line");
        }
    }

    // Notes how many files it has, and the folders that it grows in.
    void look_at_chain(const std::string& path) {
        const std::string subject = "chain " + escaped(path);
        try {
            std::uint64_t files = 0;
            if (const File file(path); chain::is_chain_file(file)) {
                const chain::ChainFile chain{File(path)};
                const chain::Places places = chain::find_layers(chain);
                files = places.paths.size();
                folders_.insert(fs::path(file.path()).parent_path().string());
                if (const chain_layer* active = chain.active())
                    folders_.insert(
                        fs::path(places.paths[static_cast<std::size_t>(active - chain.layers().data())]).parent_path().string());
            } else {
                qcow2::ChainOptions options;
                options.in_use = true;
                options.force_share = true;
                const qcow2::Chain chain(path, options);
                for (const auto& l : chain.layers()) files += l->data_file() ? 2 : 1;
                for (const std::string& w : chain.warnings())
                    add(subject, Level::warning, w, "stop that before you make a device");
                folders_.insert(fs::path(file.path()).parent_path().string());
            }
            add(subject, Level::ok, fmt::format("{} file{}, all of them there", files, files == 1 ? "" : "s"));
            files_ = std::max(files_, files);
        } catch (const Error& e) {
            add(subject, Level::wrong, e.what(), "'dmchain check' says what is wrong");
        }
    }

    std::uint64_t number(const std::string& path, unsigned word = 0) const {
        std::istringstream in(first_line(root_ + path));
        std::uint64_t n = 0;
        for (unsigned i = 0; i <= word; i++) in >> n;
        return in ? n : 0;
    }

    // The tool opens all files of a chain at once, and so does the target, for which the system's limit counts.
    void look_at_open_files() {
        const char* subject = "open files";
        const std::uint64_t files = files_ ? files_ : usual_files, need = files + spare_open_files;
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        // Root may go beyond its own limit, up to the system's.
        const std::uint64_t may =
            kernel_.root ? std::max<std::uint64_t>(number("/proc/sys/fs/nr_open"), limit.rlim_max) : limit.rlim_max;
        const std::uint64_t most = number("/proc/sys/fs/file-nr", 2), used = number("/proc/sys/fs/file-nr");
        const Level level = files_ ? Level::wrong : Level::warning;
        const std::string of = fmt::format("a chain of {} files", files);
        if (may < need)
            add(subject, level, fmt::format("at most {} in a process; {} needs {}", may, of, need),
                kernel_.root ? fmt::format("run 'sysctl fs.nr_open={}'", need)
                             : fmt::format("raise it with 'ulimit -Hn {}' as root", need));
        else if (most < used + 2 * need)
            add(subject, level, fmt::format("{} of at most {} in the whole system; {} needs {} more", used, most, of, 2 * need),
                fmt::format("run 'sysctl fs.file-max={}'", 2 * (used + 2 * need)));
        else
            add(subject, Level::ok, fmt::format("up to {} in a process; {} needs {}", may, of, need));
    }

    void look_at_room(const std::string& folder) {
        const std::string subject = "room in " + escaped(folder);
        if (folder == "/dev" || folder.starts_with("/dev/")) return;  // volumes
        struct statvfs s {};
        if (::statvfs(folder.c_str(), &s) != 0)
            return add(subject, Level::wrong, fmt::format("cannot be told: {}", std::strerror(errno)),
                       "see to it that the folder can be read");
        const std::uint64_t room = std::uint64_t{s.f_bavail} * s.f_frsize;
        const std::string found = human_size(room) + " free";
        if (s.f_flag & ST_RDONLY)
            add(subject, Level::warning, "the file system is read-only",
                "name other places for the chain file and the layer with --chain and --layer, or mount it read-write");
        else if (s.f_files && !s.f_favail)
            add(subject, Level::wrong, found + ", but no more files can be made", "remove files, or make the file system larger");
        else if (room < little)
            add(subject, room ? Level::warning : Level::wrong, found, "make room: without any, writes to a device wait");
        else
            add(subject, Level::ok, found);
    }

    const std::string root_;
    const dm::Kernel kernel_;
    std::uint64_t files_ = 0;  // of the longest chain that was named
    std::set<std::string> folders_;
    std::vector<Finding> findings_;
};

}  // namespace

const char* name_of(Level level) { return level == Level::ok ? "ok" : level == Level::warning ? "warning" : "wrong"; }

std::vector<Finding> examine(const std::vector<std::string>& chains, const std::string& root) {
    return Examination(root).run(chains);
}

}  // namespace dmchain::device
