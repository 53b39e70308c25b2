// SPDX-License-Identifier: GPL-2.0-or-later
// See folder.hpp. In a folder are:
//   dmchain-store            says what it is
//   pieces/ab/abcd...        a piece, by its digest
//   snapshots/NAME           a manifest
//   incoming/                pieces that are not durable yet
#include "replica/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "chain/output.hpp"
#include "io/error.hpp"
#include "io/lasting.hpp"
#include "io/text.hpp"
#include "io/writable.hpp"
#include "io/write_all.hpp"

namespace dmchain::replica {

namespace fs = std::filesystem;

namespace {

constexpr char mark[] = "dmchain-store";
constexpr char mark_text[] = "A store of dmchain, version 1.\n";
constexpr std::uint64_t most_manifest = std::uint64_t{1} << 30;

std::string reason() { return std::strerror(errno); }

void make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
        throw failed("{}: cannot make the folder: {}", escaped(path), reason());
}

bool is_empty(const std::string& path) {
    // A file system's own folder does not count, nor do those that were made before the mark was.
    for (const auto& entry : fs::directory_iterator(path)) {
        const std::string name = entry.path().filename().string();
        const bool made = (name == "pieces" || name == "snapshots") && fs::is_directory(entry) && fs::is_empty(entry);
        if (name != "lost+found" && !made) return false;
    }
    return true;
}

}  // namespace

bool is_name(const std::string& name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::strchr(".-_:", c);
    };
    return !name.empty() && name.size() <= 100 && name[0] != '.' && std::all_of(name.begin(), name.end(), fits);
}

Folder::Folder(const std::string& path) : path_(absolute_name(path)) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ < 0) throw failed("{}: cannot open the folder: {}", escaped(path), reason());
    struct stat st {};
    const bool known = ::fstat(fd_, &st) == 0;
    const std::string why = reason();
    if (!known) {
        ::close(fd_);
        throw failed("{}: cannot stat: {}", escaped(path), why);
    }
    device_ = st.st_dev;
    inode_ = st.st_ino;
}

Folder::Folder(Folder&& o) noexcept
    : path_(std::move(o.path_)),
      fd_(std::exchange(o.fd_, -1)),
      device_(o.device_),
      inode_(o.inode_),
      incoming_(std::exchange(o.incoming_, {})),
      waiting_(std::move(o.waiting_)) {}

Folder::~Folder() {
    std::error_code ignored;
    if (!incoming_.empty()) fs::remove_all(incoming_, ignored);
    if (fd_ >= 0) ::close(fd_);
}

bool Folder::is_store() const {
    std::error_code none;
    return fs::exists(path_ + "/" + mark, none);
}

void Folder::require_store() const {
    if (!is_store()) throw failed("{}: is no store of dmchain: there is no file {} in it", escaped(path_), mark);
}

void Folder::begin_writing() {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)
        throw failed("{}: another dmchain works on it: wait until it is done", escaped(path_));
    const bool empty = !is_store();
    if (empty && !is_empty(path_))
        throw failed("{}: is no store of dmchain, and not empty: name a store, or an empty folder", escaped(path_));
    std::error_code ignored;
    fs::remove_all(path_ + "/incoming", ignored);
    make_folder(path_ + "/pieces");
    make_folder(path_ + "/snapshots");
    if (!empty) return;
    // Last: a folder that has it has the others.
    chain::Output out(path_ + "/" + mark);
    out.write(mark_text, sizeof mark_text - 1, 0);
    out.commit(false);
}

void Folder::begin_reading() {
    require_store();
    if (::flock(fd_, LOCK_SH | LOCK_NB) != 0)
        throw failed("{}: another dmchain works on it: wait until it is done", escaped(path_));
}

std::string Folder::piece_path(const Digest& digest) const {
    const std::string name = text_of(digest);
    return fmt::format("{}/pieces/{}/{}", path_, name.substr(0, 2), name);
}

std::string Folder::manifest_path(const std::string& name) const { return path_ + "/snapshots/" + name; }

bool Folder::has(const Piece& piece) const {
    struct stat st {};
    return ::stat(piece_path(piece.digest).c_str(), &st) == 0 && S_ISREG(st.st_mode) &&
           static_cast<std::uint64_t>(st.st_size) == piece.bytes;
}

Folder::Found Folder::read(const Piece& piece, std::vector<unsigned char>& to) const {
    try {
        const std::string path = piece_path(piece.digest);
        std::error_code none;
        if (!fs::exists(path, none)) return Found::missing;
        const File file(path);
        if (file.size() != piece.bytes) return Found::damaged;
        to.resize(piece.bytes);
        file.read(to.data(), to.size(), 0);
    } catch (const Error&) {
        return Found::damaged;  // a bad sector, or no right to read: the same as no copy
    }
    return digest_of(to.data(), to.size()) == piece.digest ? Found::right : Found::damaged;
}

bool Folder::put(const Piece& piece, const void* data) {
    if (waiting_.contains(piece.digest)) return false;
    std::vector<unsigned char> there;
    if (read(piece, there) == Found::right) return false;
    if (incoming_.empty()) {
        make_folder(path_ + "/incoming");
        incoming_ = path_ + "/incoming";
    }
    const std::string path = incoming_ + "/" + text_of(piece.digest);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) throw failed("{}: cannot create: {}", escaped(path), reason());
    const bool done = write_all(fd, data, piece.bytes) == piece.bytes;
    const std::string why = reason();
    ::close(fd);
    if (!done) throw failed("{}: cannot write: {}", escaped(path), why);
    waiting_.insert(piece.digest);
    return true;
}

void Folder::sync() const {
    if (::syncfs(fd_) != 0) throw failed("{}: cannot sync: {}", escaped(path_), reason());
}

void Folder::settle() {
    if (incoming_.empty()) return;
    sync();
    for (const Digest& d : waiting_) {
        const std::string to = piece_path(d), from = incoming_ + "/" + text_of(d);
        make_folder(fs::path(to).parent_path().string());
        if (::rename(from.c_str(), to.c_str()) != 0)
            throw failed("{}: cannot rename to {}: {}", escaped(from), escaped(to), reason());
    }
    sync();
    waiting_.clear();
    ::rmdir(incoming_.c_str());
    incoming_.clear();
}

void Folder::each_piece(const std::function<void(const Digest&, std::uint64_t)>& use) const {
    std::error_code none;
    for (const auto& sub : fs::directory_iterator(path_ + "/pieces", none)) {
        if (!sub.is_directory()) continue;
        for (const auto& entry : fs::directory_iterator(sub)) {
            const auto digest = parse_digest(entry.path().filename().string());
            if (digest && entry.is_regular_file(none) && entry.path() == piece_path(*digest)) use(*digest, entry.file_size(none));
        }
    }
}

void Folder::remove_piece(const Digest& digest) const {
    const std::string path = piece_path(digest);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw failed("{}: cannot remove: {}", escaped(path), reason());
}

void Folder::settle_removals() const { sync(); }

std::vector<std::string> Folder::manifests() const {
    std::vector<std::string> out;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(path_ + "/snapshots", none))
        if (is_name(entry.path().filename().string())) out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
}

bool Folder::has_manifest(const std::string& name) const {
    std::error_code none;
    return fs::exists(manifest_path(name), none);
}

std::optional<Manifest> Folder::read_manifest(const std::string& name) const {
    if (!has_manifest(name)) return std::nullopt;
    const File file(manifest_path(name));
    if (file.size() > most_manifest)
        throw damaged("{}: has {} bytes, expected at most {}", escaped(file.path()), file.size(), most_manifest);
    std::vector<unsigned char> bytes(file.size());
    file.read(bytes.data(), bytes.size(), 0);
    Manifest m = Manifest::unpack(bytes, escaped(file.path()));
    if (m.name != name) throw damaged("{}: is of the snapshot {}", escaped(file.path()), in_quotes(m.name));
    return m;
}

void Folder::put_manifest(const std::string& name, const std::vector<unsigned char>& bytes, bool replace) const {
    chain::Output out(manifest_path(name));
    out.write(bytes.data(), bytes.size(), 0);
    out.commit(replace);
}

void Folder::remove_manifest(const std::string& name) const {
    const std::string path = manifest_path(name);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw failed("{}: cannot remove: {}", escaped(path), reason());
    sync_folder_of(path);
}

std::vector<Folder> open_folders(const std::string& store) {
    constexpr std::string_view prefix = "dir:";
    if (!store.starts_with(prefix)) throw failed("{}: is no store: expected dir:FOLDER[,FOLDER...]", in_quotes(store));
    std::vector<Folder> out;
    for (std::size_t at = prefix.size(); at <= store.size();) {
        const std::size_t end = std::min(store.find(',', at), store.size());
        if (end == at) throw failed("{}: has a folder without a name", in_quotes(store));
        Folder folder(store.substr(at, end - at));
        for (const Folder& o : out)
            if (folder.same_folder(o))
                throw failed("{}: is the same folder as {}: name folders on different disks", escaped(folder.path()),
                             escaped(o.path()));
        out.push_back(std::move(folder));
        at = end + 1;
    }
    if (out.size() > most_folders) throw failed("the store has {} folders, expected at most {}", out.size(), most_folders);
    return out;
}

}  // namespace dmchain::replica
