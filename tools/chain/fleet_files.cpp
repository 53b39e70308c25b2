// SPDX-License-Identifier: GPL-2.0-or-later
// See fleet_files.hpp.
#include "chain/fleet_files.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <set>

#include "io/function_ref.hpp"
#include "io/progress.hpp"
#include "io/qemu_lock.hpp"
#include "io/text.hpp"
#include "io/turns.hpp"

namespace dmchain::chain {

namespace fs = std::filesystem;

namespace {

// Regular files in and below @folder, and a line for each folder that cannot be read.
void walk(const std::string& folder, std::vector<std::string>& files, std::vector<std::string>& damage) {
    std::vector<std::string> folders = {folder};
    while (!folders.empty()) {
        const std::string at = std::move(folders.back());
        folders.pop_back();
        std::error_code error;
        for (fs::directory_iterator i(at, error), end; !error && i != end; i.increment(error)) {
            std::error_code none;
            const fs::file_status is = i->symlink_status(none);
            if (fs::is_directory(is))
                folders.push_back(i->path().string());
            else if (fs::is_regular_file(is))
                files.push_back(i->path().string());
        }
        if (error) damage.push_back(fmt::format("{}: cannot look into the folder: {}", escaped(at), error.message()));
    }
}

// Whether what is in the file can be what the name says.
bool looks_like(const FleetLeftover& left, const FleetFile& f) {
    using Kind = FleetLeftover::Kind;
    switch (left.kind) {
    case Kind::merging:
    case Kind::named: return f.is == FleetFile::Is::image;
    case Kind::merging_chain: return f.is == FleetFile::Is::chain_file;
    case Kind::note:
    case Kind::move_note: return f.is == FleetFile::Is::other && f.identity.bytes < (64u << 20);
    case Kind::moving: return f.is != FleetFile::Is::chain_file;
    case Kind::temporary: break;
    }
    // The superblock of a chain file is written last, a note all at once.
    return left.of.ends_with(".chain") || left.of.ends_with(".compact") || left.of.ends_with(".move");
}

// Whether there is what it would lie beside. Otherwise it is somebody's who likes such names.
bool belongs(const FleetLeftover& left, FunctionRef<bool(const std::string& path)> is_there) {
    using Kind = FleetLeftover::Kind;
    switch (left.kind) {
    case Kind::temporary: return true;
    case Kind::move_note: return true;  // the file may not be there yet
    case Kind::moving: return is_there(left.of) || is_there(left.of + ".move");
    default: return is_there(left.of) || is_there(left.of + ".compact");
    }
}

}  // namespace

std::optional<FleetLeftover> leftover_by_name(const std::string& path) {
    using Kind = FleetLeftover::Kind;
    static constexpr std::pair<const char*, Kind> endings[] = {{".merging.chain", Kind::merging_chain},
                                                               {".merging", Kind::merging},
                                                               {".named", Kind::named},
                                                               {".compact", Kind::note},
                                                               {".moving", Kind::moving},
                                                               {".move", Kind::move_note}};
    const std::size_t name_at = path.rfind('/') + 1;
    for (const auto& [ending, kind] : endings) {
        const std::string text = ending;
        if (path.ends_with(text) && path.size() - text.size() > name_at)
            return FleetLeftover{path, {}, kind, path.substr(0, path.size() - text.size())};
    }
    // As chain::Output names what it makes: NAME.PID.tmp
    if (!path.ends_with(".tmp")) return std::nullopt;
    const std::string before = path.substr(0, path.size() - 4);
    const std::size_t dot = before.rfind('.');
    if (dot == std::string::npos || dot <= name_at || dot + 1 == before.size() ||
        before.find_first_not_of("0123456789", dot + 1) != std::string::npos)
        return std::nullopt;
    return FleetLeftover{path, {}, Kind::temporary, before.substr(0, dot)};
}

FleetFile examine(const File& file, bool below) {
    FleetFile out;
    out.path = file.path();
    out.identity = file.identity();
    out.below = below;
    struct stat st {};
    if (::fstat(file.fd(), &st) == 0) out.disk_bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
    try {
        if (qcow2::has_magic(file)) {
            out.is = FleetFile::Is::image;
            out.written = is_written(file.fd());
            out.header = std::make_shared<qcow2::Header>(qcow2::read_header(file, true));
        } else if (is_chain_file(file)) {
            out.is = FleetFile::Is::chain_file;
        }
    } catch (const Error& e) {
        out.damage = e.what();
    }
    return out;
}

void find_files(const FleetOptions& options, Fleet& fleet) {
    for (const std::string& folder : options.folders) {
        std::error_code error;
        if (!fs::is_directory(folder, error))
            throw failed("{}: {}", escaped(folder), error ? "cannot look into it: " + error.message() : "is no folder");
        fleet.folders.push_back(fs::canonical(folder).string());
    }
    // What lies below another one is looked at with that.
    std::sort(fleet.folders.begin(), fleet.folders.end());
    std::vector<std::string> paths;
    for (const std::string& folder : fleet.folders) walk(folder, paths, fleet.damage);
    std::sort(paths.begin(), paths.end());
    paths.erase(std::unique(paths.begin(), paths.end()), paths.end());

    std::vector<FleetFile> found(paths.size());
    std::vector<char> ok(paths.size());
    std::mutex lock;  // covers fleet.damage
    Progress progress("reading headers", paths.size());
    share_out(paths.size(), options.threads, [&](Turns& turns, bool) {
        while (const auto i = turns.next()) {
            progress.add(1);
            try {
                found[*i] = examine(File(paths[*i]), true);
                found[*i].path = paths[*i];
                ok[*i] = 1;
            } catch (const Error& e) {
                const std::lock_guard hold(lock);
                fleet.damage.emplace_back(e.what());
            }
        }
    });
    std::set<FileKey> seen;
    const auto is_there = [&](const std::string& path) { return std::binary_search(paths.begin(), paths.end(), path); };
    for (std::size_t i = 0; i < paths.size(); i++) {
        if (!ok[i]) continue;
        std::optional<FleetLeftover> left = leftover_by_name(paths[i]);
        if (left && looks_like(*left, found[i]) && belongs(*left, is_there)) {
            left->identity = found[i].identity;
            fleet.leftovers.push_back(std::move(*left));
        }
        if (seen.insert(key_of(found[i].identity)).second) fleet.files.push_back(std::move(found[i]));
    }
}

}  // namespace dmchain::chain
